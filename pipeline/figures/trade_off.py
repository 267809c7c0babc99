"""What keeping weights orthogonal costs, and what it buys: test error, and agreement with BP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from pipeline.figures.curves import Array, count_layers
from pipeline.figures.panels import log_axis, make_panels
from pipeline.figures.style import style
from pipeline.params.labels import rule_name, value_text
from pipeline.params.looks import LOOKS, Look
from pipeline.params.schema import Params

# By rule, and what keeps the weights near orthogonal.
_LOOKS = {
    ("bp", "off_diagonal"): LOOKS["bp"],
    ("bp", "full"): Look("#56B4E9", (0, (3, 1)), "<"),
    ("bp", "constraint"): Look("#0072B2", "none", "s"),
    ("gait", "off_diagonal"): LOOKS["gait"],
    ("gait", "full"): Look("#009E73", (0, (5, 1.5)), "D"),
    ("gait", "constraint"): Look("#CC79A7", "none", "P"),
}
# Nearer to 1 than this is no cosine that was measured.
_ROUNDING = 1e-13
_NAMES = {
    "off_diagonal": "λ off the diagonal",
    "full": "λ on all of WᵀW − I",
    "constraint": "orthogonal W",
}


def can_draw_trade_off(params: Params) -> bool:
    """Whether GAIT-prop's models are kept orthogonal in two ways at least."""
    return sum(params.rule_of(model) == "gait" for model in params.run.rules) > 1


@style()
def trade_off(
    params: Params,
    histories: Mapping[str, pandas.DataFrame],
    seeds: pandas.DataFrame,
    title: str = "",
) -> Figure:
    """Test error, and the first layer's 1 − cosine with BP's gradient, against orthogonality.

    A point a model of BP or GAIT-prop, after training (with early stopping the test error is of
    each seed's best epoch, all else of the last one): mean ± standard deviation over the seeds on
    both axes, with its λ at the ends of a line, BP's in the first panel, GAIT-prop's in the second;
    GAIT-prop's under the constraint with what tells them apart, in the first.
    On the horizontal axis, logarithmic, the mean of ‖WᵀW − I‖_F / √n over the layers that errors
    pass through, which is all but the first. Models that differ in λ alone are joined. The tables
    are of one data set and architecture.
    """
    figure, panels = make_panels(1, 2, 2.9, sharex=True)
    error, angle = panels[0]
    for (rule, kind), models in _series(params).items():
        look = _LOOKS[rule, kind]
        label = f"{rule_name(rule)}, {_NAMES[kind]}"
        points = [_points(histories[model], seeds[seeds.model == model]) for model in models]
        notes = [_note(params, model, models) for model in models]
        lines = [_line(params, model) for model in models]
        errors = [(x, 100 * (1 - y)) for x, y, _ in points]
        held = kind == "constraint"
        # BP under the constraint is where GAIT-prop is, to a hair.
        _draw(error, look, label, errors, lines, notes if held != (rule == "bp") else ())
        if rule != "bp":
            far = [(x, numpy.maximum(1 - z, _ROUNDING)) for x, _, z in points]
            _draw(angle, look, label, far, lines, () if held else notes)
    error.set(ylabel="test error (%)", xscale="log")
    angle.set(ylabel="1 − cosine with BP, first layer")
    for panel in (error, angle):
        log_axis(panel, *panel.get_ylim())
        panel.set_xlabel("‖WᵀW − I‖ / √n")
        panel.xaxis.set_major_locator(LogLocator(numticks=8))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.margins(0.12)
    figure.legend(*error.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    error.set_title(title, loc="left")
    count = seeds.seed.nunique()
    text = f"Mean ± 1 standard deviation over {count} seeds." if count > 1 else "One seed."
    axis = "Horizontal: mean over all layers but the first. At a line's ends λ, on the left BP's."
    ends = "A bar without a lower end goes down to 0."
    if any(params.settings_of(model).output_gain for model in params.run.rules):
        ends += " ×: output gain."
    early = params.training.patience is not None
    best = "Test error: of each seed's best epoch; all else: of the last one."
    when = best if early else "After training."
    figure.supxlabel(f"{when} {text} {ends}\n{axis}", color="0.3")
    return figure


def _series(params: Params) -> dict[tuple[str, str], list[str]]:
    """Models by rule and by what keeps them orthogonal, in the order of their λ."""
    found: dict[tuple[str, str], list[str]] = {}
    for model in params.models():
        settings, rule = params.settings_of(model), params.rule_of(model)
        kind = "constraint" if settings.constraint != "none" else settings.penalty
        if (rule, kind) in _LOOKS:
            found.setdefault((rule, kind), []).append(model)
    for series in found.values():
        series.sort(key=lambda model: params.settings_of(model).orthogonality)
    return found


def _points(history: pandas.DataFrame, seeds: pandas.DataFrame) -> tuple[Array, Array, Array]:
    """Of each seed: last defect, accuracy of what is kept, the first layer's last cosine."""
    measured = history[history.bp_cosine_layer_1.notna()]
    last = measured[measured.epoch == measured.epoch.max()].set_index("seed")
    layers = range(2, count_layers(history) + 1)
    defects = last[[f"orthogonality_defect_layer_{layer}" for layer in layers]].mean(axis=1)
    accuracies = seeds.set_index("seed").test_accuracy
    order = list(accuracies.index)
    return (
        numpy.asarray(defects[order], float),
        numpy.asarray(accuracies, float),
        numpy.asarray(last.bp_cosine_layer_1[order], float),
    )


def _line(params: Params, model: str) -> tuple[float, float | None]:
    """The models of a line have this in common."""
    settings = params.settings_of(model)
    return settings.learning_rate, settings.output_gain


def _note(params: Params, model: str, models: Sequence[str]) -> str:
    """What tells a model from the others of its series."""
    settings = params.settings_of(model)
    if settings.constraint == "none":
        return value_text(settings.orthogonality)
    gain, rate = settings.output_gain, settings.learning_rate
    parts = [] if gain is None else [f"×{value_text(gain)}"]
    others = map(params.settings_of, models)
    if any(each.output_gain == gain and each.learning_rate != rate for each in others):
        parts.append(f"learning rate {value_text(rate)}")
    return ", ".join(parts)


def _draw(
    panel: Axes,
    look: Look,
    label: str,
    points: list[tuple[Array, Array]],
    lines: Sequence[Any],
    notes: Sequence[str],
) -> None:
    means = numpy.array([(x.mean(), y.mean()) for x, y in points])
    spreads = [[each.std(ddof=1) if len(each) > 1 else 0.0 for each in point] for point in points]
    across, up = means.T
    # A bar down to zero or below has no lower end on a log axis, which it leaves.
    bars = numpy.stack([numpy.minimum(spreads, means), spreads])
    panel.set_yscale("log", nonpositive="clip")
    ends: set[int] = set()
    for line in dict.fromkeys(lines):
        joined = [index for index, other in enumerate(lines) if other == line]
        ends |= {joined[0], joined[-1]}
        panel.plot(
            across[joined],
            up[joined],
            color=look.colour,
            linestyle=look.dashes,
            linewidth=0.8,
            zorder=2,
        )
    panel.errorbar(
        across,
        up,
        xerr=bars[..., 0],
        yerr=bars[..., 1],
        color=look.colour,
        linestyle="none",
        marker=look.marker,
        markersize=5,
        elinewidth=0.8,
        capsize=2,
        label=label,
        zorder=3,
    )
    # Along a line λ rises from end to end; in between, numbers would cover each other.
    for index in sorted(ends) if notes else ():
        neighbour = across[min(1, len(across) - 1) if index == 0 else index - 1]
        # Of points above one another, on the side where the axis is not.
        right = across[index] >= 0.9 * neighbour
        panel.annotate(
            notes[index],
            tuple(means[index]),
            (6, -5) if right else (-6, 5),
            color=look.colour,
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
        )
