"""Layer by layer over training: agreement with BP, distance from orthogonality."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping
from typing import Any

import numpy
import pandas
from matplotlib.figure import Figure

from pipeline.figures.curves import (
    MOST_BANDS,
    Curve,
    arithmetic_mean,
    count_layers,
    epoch_limit,
    geometric_mean,
    layer_curves,
)
from pipeline.figures.panels import (
    add_guide,
    add_layer_bar,
    add_note,
    draw_layers,
    epoch_axes,
    label_rows,
    log_axis,
    make_panels,
    make_stacks,
)
from pipeline.figures.style import model_label, style
from pipeline.params.schema import Params

DISTANCES = {
    "orthogonality_defect": "‖WᵀW − I‖ / √n",
    "defect_of_errors": "‖(WᵀW − I)u‖ / ‖u‖",
    "condition_number": "condition number",
}
"""What is drawn of a history under this name, and how its axis is labelled."""


# More columns than this are too narrow for a rule and its λ in one line.
_WIDE_TITLES = 3
# Characters that a narrow column's title may be wide.
_TITLE_WIDTH = 22


@style()
def alignment(params: Params, histories: Mapping[str, pandas.DataFrame], title: str = "") -> Figure:
    """Cosine with BP's gradient, and ratio of the norms (log axis), of each layer over training.

    A column a model, models that BP trains left out: one at least is not; a line a layer. A single
    model has its two panels side by side. The histories are of one data set and architecture.
    """
    shown = {model: h for model, h in histories.items() if params.rule_of(model) != "bp"}
    layers = count_layers(next(iter(shown.values())))
    if len(shown) == 1:
        figure, panels = make_panels(1, 2, 2.0)
        pairs = panels
    else:
        figure, panels, pairs = make_stacks(len(shown), 2)
    bands = layers <= MOST_BANDS
    draw_alignment(pairs, shown.values(), epoch_limit(2 * len(shown) * layers, bands))
    for (cosine, _), model in zip(pairs, shown, strict=True):
        cosine.set_title(_title(params, model, len(shown)))
    label_rows(panels, 2)
    epoch_axes(panels)
    add_layer_bar(figure, figure.axes, layers)
    figure.suptitle(title)
    add_note(figure, shown.values(), mean="mean (geometric for norms)", bands=bands)
    return figure


def draw_alignment(pairs: Any, histories: Collection[pandas.DataFrame], limit: int) -> None:
    """Each layer's cosine with BP's gradient, and ratio of norms: a pair of panels a history.

    Of the cosines' −1…1 as much as the lines take is shown, and 0.9…1 at least; of the norms 0.5…2
    at least. Panels of several pairs share their axes.
    """
    for (cosine, norm), history in zip(pairs, histories, strict=True):
        draw_layers(cosine, layer_curves(history, "bp_cosine", arithmetic_mean, limit))
        norm.set_yscale("log")
        draw_layers(norm, layer_curves(history, "bp_relative_norm", geometric_mean, limit))
    cosine, norm = pairs[0]
    cosine.set(ylabel="cosine with BP", ylim=(max(-1.05, min(0.9, cosine.get_ylim()[0])), 1.02))
    norm.set_ylabel("norm relative to BP")
    low, high = norm.get_ylim()
    log_axis(norm, min(low, 0.5), max(high, 2.0))
    for cosine, norm in pairs:
        add_guide(cosine, 0.0)
        add_guide(norm, 1.0)


@style()
def orthogonality(
    params: Params, histories: Mapping[str, pandas.DataFrame], title: str = ""
) -> Figure:
    """How far layers are from orthogonal over training (log axes).

    ‖WᵀW − I‖_F / √n, a mean over all directions; below it the same in the directions that errors
    travel in, on one scale; the condition number. A column a model, a line a layer. The histories
    are of one data set and architecture.
    """
    layers = count_layers(next(iter(histories.values())))
    figure, panels, stacks = make_stacks(len(histories), len(DISTANCES))
    bands = layers <= MOST_BANDS
    limit = epoch_limit(len(stacks.flat) * layers, bands)
    drawn: list[Curve] = []
    for stack, (model, history) in zip(stacks, histories.items(), strict=True):
        stack[0].set_title(_title(params, model, len(histories)))
        for panel, quantity in zip(stack, DISTANCES, strict=True):
            curves = layer_curves(history, quantity, geometric_mean, limit)
            panel.set_yscale("log")
            draw_layers(panel, curves)
            drawn += curves if "defect" in quantity else []
    for panel, label in zip(panels[:, 0], DISTANCES.values(), strict=False):
        panel.set_ylabel(label)
    # From the trained networks' smallest defect: an untrained one's may be rounding alone.
    trained = numpy.concatenate([curve.low[1:] for curve in drawn])
    highest = max(curve.high.max() for curve in drawn)
    lowest = trained[trained > 0].min(initial=highest) / 1.5
    for panel in panels[:2, 0]:
        log_axis(panel, lowest, highest * 1.5)
    log_axis(panels[2, 0], 0.9, max(2.0, panels[2, 0].get_ylim()[1]))
    label_rows(panels, len(DISTANCES))
    epoch_axes(panels)
    add_layer_bar(figure, figure.axes, layers)
    figure.suptitle(title)
    below = any(curve.mean[0] < lowest for curve in drawn)
    others = (
        "\nu: BP's errors. A first layer that is not square is never inverted, nor made orthogonal."
    )
    others += "\nBelow the frame: untrained, orthogonal to rounding." * below
    add_note(figure, histories.values(), mean="geometric mean", bands=bands, others=others)
    return figure


def _title(params: Params, model: str, columns: int) -> str:
    """A model's name, and its λ beneath it where a line has no room for both."""
    label = model_label(params, model)
    if columns <= _WIDE_TITLES:
        return label
    name, weight = label.rsplit(", ", 1)
    return f"{textwrap.fill(name, _TITLE_WIDTH)}\n{weight}"
