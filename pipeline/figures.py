"""Figures: tables in, matplotlib figures out; no files, no pyplot, no global state.

A history is a table as pipeline/history.py describes it: one row an epoch and seed, epoch 0 the
untrained network. The same tables give the same bytes of SVG, whatever the user's matplotlibrc.
Figures are made at the size at which they are printed, 7.1 inches wide at most, in 8 pt type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import matplotlib
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from pipeline.config import REFERENCE, Params
from pipeline.data import IMAGE_SETS
from pipeline.labels import model_name
from pipeline.project import ModelKey

Array = NDArray[numpy.float64]

WIDTH = 7.1
"""Inches: the text width of most journals' pages."""
NEAR_REFERENCE = 5.0
"""Percentage points: models that close to BP share the enlarged axis of ``final_accuracy``."""
LEAST_ERROR = 0.01
"""Percent: an error axis shows no less, or one lone error would stretch it by decades."""
MOST_BANDS = 8
"""With more layers than this, bands would cover each other, so lines stand alone."""
MOST_VERTICES = 5_000
"""In one figure, at some 25 bytes each; epochs are left out beyond, which no eye can see."""

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.facecolor": "white",  # a transparent page would be unreadable in dark mode
    "figure.labelsize": 8,
    "figure.titlesize": 9,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.title_fontsize": 9,
    "legend.handlelength": 2.8,  # long enough to tell dashes from dots
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "gait",  # names of clip paths would be random otherwise
    "xtick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 8,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
}


@dataclass(frozen=True)
class _Look:
    """How a model is drawn: colour, dashes and marker each tell it apart."""

    colour: str
    dashes: Any
    marker: str


# Okabe and Ito's colours, which do not depend on the reader's kind of colour vision.
_LOOKS = {
    REFERENCE: _Look("#000000", "solid", "s"),
    "bp": _Look("#0072B2", (0, (5, 1.5)), "^"),
    "gait": _Look("#D55E00", "solid", "o"),
    "itp": _Look("#009E73", (0, (5, 1.5, 1, 1.5)), "v"),
    "tp": _Look("#CC79A7", (0, (1, 1.2)), "D"),
}
QUANTITIES = {"validation": "validation", "training": "train"}
"""What is drawn of a history, and how its columns' names begin."""

_OTHER_LOOKS = (_Look("#E69F00", (0, (3, 1)), "P"), _Look("#56B4E9", (0, (8, 2)), "X"))


class StyledFigure(Figure):
    """A figure that is saved in the style it was made in, by whomever it is saved."""

    def savefig(self, fname: Any, *args: Any, **options: Any) -> None:
        """As ``Figure.savefig``; an SVG carries no date."""
        if str(options.get("format", fname)).endswith("svg"):
            options["metadata"] = {"Date": None, **(options.get("metadata") or {})}
        with style():
            super().savefig(fname, *args, **options)


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults and ``STYLE`` within the block; the user's settings after it."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def model_label(params: Params, model: str, break_line: bool = False) -> str:
    """A model's name for readers, with its λ, in one line or two."""
    between = "\n" if break_line else ", "
    return f"{model_name(params, model)}{between}λ = {params.settings_of(model).orthogonality:g}"


def learning_curves(params: Params, histories: Mapping[ModelKey, pandas.DataFrame]) -> Figure:
    """Validation and training error (percent, log axis) against epochs, a line a model.

    On a log axis of the error, rules that learn stand apart from one another, and rules that fail
    stay near chance. Columns: data sets; rows: architectures, validation above training. With a
    single data set, validation and training stand side by side.

    Args:
        params: says which models there are, and names them.
        histories: of any number of data sets and architectures.
    """
    with style():
        figure, panels = _learning_panels(histories)
        limit = _epoch_limit(3 * 2 * len(histories))
        curves = {
            (key, quantity): _arithmetic(_errors(history, quantity), limit)
            for key, history in histories.items()
            for quantity in QUANTITIES
        }
        leaving = False
        for (dataset, architecture, quantity), panel in panels.items():
            # One floor for a data set's architectures, which are compared.
            of_dataset = {
                key: curve
                for (key, shown), curve in curves.items()
                if (key.dataset, shown) == (dataset, quantity)
            }
            floor = _floor(of_dataset.values())
            _error_axis(panel, floor, 100 * (1 - 1 / IMAGE_SETS[dataset].classes))
            for key, curve in of_dataset.items():
                if key.architecture == architecture:
                    _draw_model(panel, curve, floor, params, key.model)
                    leaving |= bool((curve.mean < floor).any())
        _model_legend(figure, params)
        others = "Grey line: chance. " + ("Below the frame: fewer errors, or none." * leaving)
        _note(figure, histories.values(), others=others)
        return figure


def alignment(params: Params, histories: Mapping[str, pandas.DataFrame], title: str = "") -> Figure:
    """Cosine with BP's gradient, and ratio of the norms (log axis), of each layer over training.

    A column a model, models that BP trains left out; a line a layer. A single model has its two
    panels side by side.

    Args:
        params: names the models.
        histories: of one data set and architecture, by model; one at least is not trained by BP.
        title: above all panels.
    """
    with style():
        shown = {model: h for model, h in histories.items() if params.rule_of(model) != "bp"}
        layers = _layers(next(iter(shown.values())))
        if len(shown) == 1:
            figure, panels = _panels(1, 2, 2.0)
            pairs = panels
        else:
            figure, panels = _panels(2, len(shown), 1.75, sharex=True, sharey="row")
            pairs = panels.T
        limit = _epoch_limit(2 * len(shown) * layers * _vertices(layers))
        for (cosine, norm), (model, history) in zip(pairs, shown.items(), strict=True):
            cosine.set_title(model_label(params, model))
            _draw_layers(cosine, _layer_curves(history, "bp_cosine", _arithmetic, limit))
            norm.set_yscale("log")
            _draw_layers(norm, _layer_curves(history, "bp_relative_norm", _geometric, limit))
        _cosine_axis(pairs[0, 0])
        _norm_axis(pairs[0, 1])
        for cosine, norm in pairs:
            _guide(cosine, 0.0)
            _guide(norm, 1.0)
        _epoch_axes(panels)
        _layer_bar(figure, figure.axes, layers)
        figure.suptitle(title)
        _note(figure, shown.values(), mean="mean (geometric for norms)", bands=layers <= MOST_BANDS)
        return figure


def orthogonality(
    params: Params, histories: Mapping[str, pandas.DataFrame], title: str = ""
) -> Figure:
    """Orthogonality defect ‖WᵀW − I‖_F / √n (log axis) of each layer over training.

    A panel a model, a line a layer.

    Args:
        params: names the models.
        histories: of one data set and architecture, by model.
        title: above all panels.
    """
    with style():
        layers = _layers(next(iter(histories.values())))
        figure, panels = _panels(1, len(histories), 2.0, sharex=True, sharey=True)
        limit = _epoch_limit(len(histories) * layers * _vertices(layers))
        drawn: list[_Curve] = []
        for panel, (model, history) in zip(panels[0], histories.items(), strict=True):
            curves = _layer_curves(history, "orthogonality_defect", _geometric, limit)
            panel.set_yscale("log")
            _draw_layers(panel, curves)
            panel.set_title(model_label(params, model, break_line=True))
            drawn += curves
        _defect_axis(panels[0, 0], drawn)
        _epoch_axes(panels)
        _layer_bar(figure, figure.axes, layers)
        figure.suptitle(title)
        below = any(curve.mean[0] < panels[0, 0].get_ylim()[0] for curve in drawn)
        others = "Below the frame: untrained, orthogonal to rounding." if below else ""
        _note(
            figure,
            histories.values(),
            mean="geometric mean",
            bands=layers <= MOST_BANDS,
            others=others,
        )
        return figure


def final_accuracy(params: Params, seeds: pandas.DataFrame) -> Figure:
    """Test accuracy (percent) of every seed, and its mean ± standard deviation, a line a model.

    On the left the whole axis; on the right the models within ``NEAR_REFERENCE`` percentage points
    of BP, enlarged. A row of panels for each data set and architecture.

    Args:
        params: names the models and gives their order, top to bottom.
        seeds: columns dataset, architecture, model, seed, test_accuracy (a fraction).
    """
    with style():
        cases = list(seeds.groupby(["dataset", "architecture"], sort=False))
        height = 0.5 + 0.18 * len(params.models())
        figure, panels = _panels(len(cases), 2, height, ratios=(1, 1.25))
        for (whole, near), (names, group) in zip(panels, cases, strict=True):
            accuracies = {
                model: numpy.asarray(100 * group[group.model == model].test_accuracy, float)
                for model in params.models()
            }
            _draw_accuracies(whole, params, accuracies)
            _draw_accuracies(near, params, accuracies)
            _whole_axis(whole, params, 100 / IMAGE_SETS[names[0]].classes)
            _near_axis(near, accuracies)
            whole.set_title(_case(*names), loc="left")
            near.set_title("enlarged: models near BP", loc="left")
        for panel in panels[-1]:
            panel.set_xlabel("test accuracy after the last epoch (%)")
        count = seeds.seed.nunique()
        note = f"Dots: seeds, n = {count}; diamond, bar and numbers: mean ± 1 standard deviation."
        figure.supxlabel(note if count > 1 else "One seed.", color="0.3")
        return figure


def model_curves(history: pandas.DataFrame, title: str) -> Figure:
    """One run at a glance: error, loss, and each layer's agreement with BP.

    Args:
        history: of one model.
        title: above all panels.
    """
    with style():
        layers = _layers(history)
        figure, panels = _panels(2, 2, 1.9, sharex=True)
        limit = _epoch_limit(2 * layers * _vertices(layers))
        (error, loss), (cosine, norm) = panels
        errors = {name: _arithmetic(_errors(history, name), limit) for name in QUANTITIES}
        floor = _floor(errors.values())
        for order, (quantity, look) in enumerate(zip(QUANTITIES, _LOOKS.values(), strict=False)):
            losses = _geometric(_by_seed(history, f"{QUANTITIES[quantity]}_loss"), limit)
            _draw_curve(error, _raised(errors[quantity], floor / 2), look, order, quantity)
            _draw_curve(loss, losses, look, order, quantity)
        _error_axis(error, floor)
        error.set_ylabel("error (%)")
        loss.set_ylabel("loss ½‖y − t‖²")
        loss.set_yscale("log")
        _log_axis(loss, *loss.get_ylim())
        figure.legend(
            *error.get_legend_handles_labels(), title=title, loc="outside upper center", ncols=2
        )
        _draw_layers(cosine, _layer_curves(history, "bp_cosine", _arithmetic, limit))
        norm.set_yscale("log")
        _draw_layers(norm, _layer_curves(history, "bp_relative_norm", _geometric, limit))
        _cosine_axis(cosine)
        _norm_axis(norm)
        _guide(cosine, 0.0)
        _guide(norm, 1.0)
        _epoch_axes(panels)
        _layer_bar(figure, [cosine, norm], layers)
        _note(
            figure,
            [history],
            mean="mean (geometric for loss and norms)",
            bands=layers <= MOST_BANDS,
        )
        return figure


# --- tables -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Curve:
    """A quantity over E epochs; the bounds are the mean's own for a single seed."""

    epochs: Array
    mean: Array
    low: Array
    high: Array


_Averaging = Callable[[pandas.DataFrame, int], _Curve]


def _by_seed(history: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """(E, S): a row an epoch, a column a seed; epochs without a value are left out."""
    table = history.pivot(index="epoch", columns="seed", values=column)
    return table.dropna(how="all")


def _errors(history: pandas.DataFrame, quantity: str) -> pandas.DataFrame:
    """(E, S), percent: the share of images that is not classified correctly."""
    return 100 * (1 - _by_seed(history, f"{QUANTITIES[quantity]}_accuracy"))


def _arithmetic(values: pandas.DataFrame, limit: int) -> _Curve:
    """Mean ± sample standard deviation over the seeds, at ``limit`` epochs at most."""
    values = _thinned(values, limit)
    mean = numpy.asarray(values.mean(axis=1), float)
    spread = numpy.asarray(values.std(axis=1, ddof=1).fillna(0.0), float)
    return _Curve(numpy.asarray(values.index, float), mean, mean - spread, mean + spread)


def _geometric(values: pandas.DataFrame, limit: int) -> _Curve:
    """The same of the logarithm: on a log axis the band is symmetric and never reaches zero."""
    logarithms = _arithmetic(numpy.log(values.where(values > 0)), limit)
    return _Curve(
        logarithms.epochs,
        numpy.exp(logarithms.mean),
        numpy.exp(logarithms.low),
        numpy.exp(logarithms.high),
    )


def _layer_curves(
    history: pandas.DataFrame, quantity: str, average: _Averaging, limit: int
) -> list[_Curve]:
    """One curve a layer, layer 1 first."""
    return [
        average(_by_seed(history, f"{quantity}_layer_{layer}"), limit)
        for layer in range(1, _layers(history) + 1)
    ]


def _layers(history: pandas.DataFrame) -> int:
    return sum(column.startswith("bp_cosine_layer_") for column in history.columns)


def _thinned(values: pandas.DataFrame, limit: int) -> pandas.DataFrame:
    """``limit`` rows at most, evenly spaced, with the first and the last."""
    if len(values) <= limit:
        return values
    return values.iloc[numpy.unique(numpy.linspace(0, len(values) - 1, limit).round().astype(int))]


def _epoch_limit(vertices_an_epoch: int) -> int:
    return max(20, MOST_VERTICES // vertices_an_epoch)


def _vertices(layers: int) -> int:
    """Of a line, or of a line and its band."""
    return 3 if layers <= MOST_BANDS else 1


def _floor(curves: Iterable[_Curve]) -> float:
    """Where the log axis of an error (percent) ends: a little below the smallest mean but zero."""
    positive = [curve.mean[curve.mean > 0].min(initial=100.0) for curve in curves]
    return min(max(0.7 * float(min(positive)), LEAST_ERROR), 20.0)


def _different(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _case(dataset: str, architecture: str) -> str:
    return f"{IMAGE_SETS[dataset].title}, {architecture}"


# --- panels, lines, axes ------------------------------------------------------------------------


def _panels(
    rows: int,
    columns: int,
    height: float,
    *,
    sharex: bool | Literal["all", "row", "col"] = False,
    sharey: bool | Literal["all", "row", "col"] = False,
    ratios: Sequence[float] | None = None,
) -> tuple[Figure, Any]:
    """An empty figure and its axes, (rows, columns); ``height`` of a row in inches."""
    figure = StyledFigure(figsize=(WIDTH, rows * height + 0.6), layout="constrained")
    panels = figure.subplots(
        rows, columns, squeeze=False, sharex=sharex, sharey=sharey, width_ratios=ratios
    )
    return figure, panels


def _learning_panels(
    keys: Iterable[ModelKey],
) -> tuple[Figure, dict[tuple[str, str, str], Axes]]:
    """Axes by data set, architecture and quantity."""
    keys = list(keys)
    datasets = _different(key.dataset for key in keys)
    architectures = _different(key.architecture for key in keys)
    beside = len(datasets) == 1
    rows = len(architectures) * (1 if beside else 2)
    figure, grid = _panels(
        rows, 2 if beside else len(datasets), 2.2 if rows == 1 else 1.65, sharex=True
    )
    panels = {}
    for row, architecture in enumerate(architectures):
        for column, dataset in enumerate(datasets):
            for place, quantity in enumerate(QUANTITIES):
                panel = grid[row, place] if beside else grid[2 * row + place, column]
                panels[dataset, architecture, quantity] = panel
                if beside or place == 0:
                    panel.set_title(_case(dataset, architecture))
                if beside or column == 0:
                    panel.set_ylabel(f"{quantity} error (%)")
    _epoch_axes(grid)
    return figure, panels


def _look(params: Params, model: str) -> _Look:
    if model in _LOOKS:
        return _LOOKS[model]
    others = [name for name in params.models() if name not in _LOOKS]
    return _OTHER_LOOKS[others.index(model) % len(_OTHER_LOOKS)]


def _draw_model(panel: Axes, curve: _Curve, floor: float, params: Params, model: str) -> None:
    """One model's error; what lies below the axis' floor, 0 too, leaves the frame downwards."""
    order = params.models().index(model)
    look, label = _look(params, model), model_label(params, model)
    _draw_curve(panel, _raised(curve, floor / 2), look, order, label)


def _raised(curve: _Curve, least: float) -> _Curve:
    return _Curve(curve.epochs, *(v.clip(least) for v in (curve.mean, curve.low, curve.high)))


def _draw_curve(panel: Axes, curve: _Curve, look: _Look, order: int, label: str) -> None:
    _band(panel, curve, look.colour)
    # Six markers a line, each line's at other epochs: they tell lines apart where colours do not.
    step = max(1, len(curve.epochs) // 6)
    panel.plot(
        curve.epochs,
        curve.mean,
        color=look.colour,
        linestyle=look.dashes,
        marker=look.marker,
        markevery=(order * step // 5 % step, step),
        label=label,
        zorder=3,
    )


def _draw_layers(panel: Axes, curves: Sequence[_Curve]) -> None:
    """A line a layer, numbered where few enough: the numbers must not cover each other."""
    colours = _layer_colours(len(curves))
    for layer, (curve, colour) in enumerate(zip(curves, colours, strict=True), start=1):
        if len(curves) <= MOST_BANDS:
            _band(panel, curve, colour)
            _number(panel, curve, layer, len(curves), colour)
        panel.plot(curve.epochs, curve.mean, color=colour, zorder=3)


def _number(panel: Axes, curve: _Curve, layer: int, layers: int, colour: Any) -> None:
    """The layer's number on its line; every layer's at another epoch."""
    epoch = curve.epochs[0] + (curve.epochs[-1] - curve.epochs[0]) * (layer - 0.4) / (layers + 0.2)
    # Lines are straight on the axis as it is scaled.
    scale, unscale = (numpy.log, numpy.exp) if panel.get_yscale() == "log" else (_same, _same)
    panel.annotate(
        str(layer),
        (epoch, float(unscale(numpy.interp(epoch, curve.epochs, scale(curve.mean))))),
        color=colour,
        ha="center",
        va="center",
        annotation_clip=True,
        bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        zorder=4,
    )


def _same(values: Any) -> Any:
    return values


def _band(panel: Axes, curve: _Curve, colour: Any) -> None:
    if (curve.high > curve.low).any():
        panel.fill_between(
            curve.epochs, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0, zorder=2
        )


def _guide(panel: Axes, height: float) -> None:
    """A grey line at a value to compare with, if the axis shows it; call it once limits are set."""
    low, high = panel.get_ylim()
    if low < height < high:
        panel.axhline(height, color="0.5", linewidth=0.8, zorder=1)


def _layer_colours(layers: int) -> list[tuple[float, float, float, float]]:
    """From dark (input) to light (output), in grey too; not to yellow, invisible on white."""
    viridis = matplotlib.colormaps["viridis"]
    return [viridis(shade) for shade in numpy.linspace(0, 0.75, layers)]


def _layer_bar(figure: Figure, panels: Sequence[Axes], layers: int) -> None:
    edges = numpy.arange(layers + 1) + 0.5
    colours = ListedColormap(_layer_colours(layers))
    bar = figure.colorbar(
        ScalarMappable(BoundaryNorm(edges, layers), colours),
        ax=panels,
        ticks=MaxNLocator(8, integer=True),
        label="layer (1: input side)",
        aspect=30,
        pad=0.01,
    )
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)


def _log_axis(panel: Axes, low: float, high: float) -> None:
    """From low to high: powers of ten, and 2 and 5 between them where they are few."""
    panel.set(yscale="log", ylim=(low, high))
    subs = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
    panel.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
    panel.yaxis.set_minor_locator(NullLocator())
    if low > 1e-4 and high < 2e3:
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _error_axis(panel: Axes, floor: float, chance: float | None = None) -> None:
    _log_axis(panel, floor, 130)
    if chance is not None:
        _guide(panel, chance)


def _cosine_axis(panel: Axes) -> None:
    panel.set(ylabel="cosine with BP", ylim=(max(-1.05, min(0.9, panel.get_ylim()[0])), 1.02))


def _norm_axis(panel: Axes) -> None:
    panel.set_ylabel("norm relative to BP")
    low, high = panel.get_ylim()
    _log_axis(panel, min(low, 0.5), max(high, 2.0))


def _defect_axis(panel: Axes, curves: Sequence[_Curve]) -> None:
    """From the trained networks' smallest defect: an untrained one's may be rounding alone."""
    trained = numpy.concatenate([curve.low[1:] for curve in curves])
    highest = max(curve.high.max() for curve in curves)
    panel.set_ylabel("‖WᵀW − I‖ / √n")
    _log_axis(panel, trained[trained > 0].min(initial=highest) / 1.5, highest * 1.5)


def _epoch_axes(panels: Any) -> None:
    """Whole epochs on every panel; a column's lowest panel is labelled."""
    for panel in panels.flat:
        panel.xaxis.set_major_locator(
            MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10], min_n_ticks=1)
        )
        panel.tick_params(labelbottom=False)
    for panel in panels[-1]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("epoch")


def _model_legend(figure: Figure, params: Params) -> None:
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.dashes, marker=look.marker)
        for look in (_look(params, model) for model in params.models())
    ]
    labels = [model_label(params, model) for model in params.models()]
    figure.legend(handles, labels, loc="outside upper center", ncols=3)


def _note(
    figure: Figure,
    histories: Iterable[pandas.DataFrame],
    mean: str = "mean",
    bands: bool = True,
    others: str = "",
) -> None:
    """Says below the panels what lines and bands are."""
    count = max(history.seed.nunique() for history in histories)
    if count == 1:
        text = "One seed."
    else:
        band = "; band: ± 1 standard deviation" if bands else ""
        text = f"Line: {mean} over {count} seeds{band}."
    figure.supxlabel(f"{text} {others}".strip(), color="0.3")


def _draw_accuracies(panel: Axes, params: Params, accuracies: Mapping[str, Array]) -> None:
    for row, (model, values) in enumerate(accuracies.items()):
        look = _look(params, model)
        # Seeds of equal accuracy would hide each other on one height.
        heights = row + numpy.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [row]
        panel.plot(
            values,
            heights,
            "o",
            color=look.colour,
            alpha=0.7,
            markersize=3.4,
            markeredgewidth=0,
            zorder=4,
        )
        panel.errorbar(
            values.mean(),
            row,
            xerr=values.std(ddof=1) if len(values) > 1 else None,
            color=look.colour,
            marker="D",
            markeredgecolor="black",
            markeredgewidth=0.5,
            markersize=5.5,
            capsize=3,
            zorder=3,
        )
    panel.set_ylim(len(accuracies) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)


def _whole_axis(panel: Axes, params: Params, chance: float) -> None:
    labels = [model_label(params, model) for model in params.models()]
    panel.set_yticks(range(len(labels)), labels)
    panel.tick_params(axis="y", length=0)
    panel.axvline(chance, color="0.5", linewidth=0.8, zorder=1)
    panel.annotate("chance", (chance, 0), xytext=(2, 0), textcoords="offset points", color="0.3")
    panel.set_xlim(0, 102)


def _near_axis(panel: Axes, accuracies: Mapping[str, Array]) -> None:
    """The models near the reference fill the axis; an arrow stands for the others."""
    least = accuracies[REFERENCE].mean() - NEAR_REFERENCE
    near = numpy.concatenate([v for v in accuracies.values() if v.mean() >= least])
    margin = max(0.1 * (near.max() - near.min()), 0.1)
    panel.set_xlim(near.min() - margin, near.max() + margin)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.set_yticks([])
    write = partial(panel.text, transform=panel.get_yaxis_transform())
    panel.annotate("mean (%)", (1.03, 1), (0, 6), "axes fraction", "offset points")
    for row, values in enumerate(accuracies.values()):
        spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
        write(1.03, row, f"{values.mean():.2f}{spread}", va="center")
        if values.mean() < least:
            write(0.02, row, "◂ off this axis", va="center", color="0.3")
