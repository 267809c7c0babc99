"""Panels, lines and axes that several figures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pipeline.data.image_sets import image_set
from pipeline.figures.curves import MOST_BANDS, Curve
from pipeline.figures.style import WIDTH, StyledFigure, layer_shades
from pipeline.params.looks import Look

MOST_MARKED = 15
"""With more points than this, the markers of layers' lines would touch."""
MOST_COLUMNS = 5
"""More panels beside each other would leave no room for their titles."""


def make_panels(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, Any]:
    """An empty figure and its axes, (rows, columns); ``height`` of a row in inches.

    The options are those of ``Figure.subplots``.
    """
    figure = StyledFigure(figsize=(WIDTH, rows * height + 0.6), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def make_stacks(count: int, height: int) -> tuple[Figure, Any, Any]:
    """An empty figure with so many panels above each other for each of ``count`` models.

    Returns:
        The figure; its panels, (rows, columns), ``height`` rows for each block of columns; the
        models' stacks of panels, (count, height). Panels of one place have one axis.
    """
    # In several blocks there are other rules than the paper's, whose names are longer.
    blocks = 1 if count <= MOST_COLUMNS else -(-count // (MOST_COLUMNS - 1))
    columns = -(-count // blocks)
    figure, panels = make_panels(height * blocks, columns, 1.75, sharex=True)
    # Rows that share with each other first would keep the ticks of before.
    for row, column in list(numpy.ndindex(panels.shape)):
        if row >= height or column:
            panels[row, column].sharey(panels[row % height, 0])
            panels[row, column].tick_params(labelleft=column == 0)
    stacks = panels.reshape(blocks, height, columns).swapaxes(1, 2).reshape(-1, height)
    for panel in stacks[count:].flat:
        panel.set_visible(False)
    return figure, panels, stacks[:count]


def label_rows(panels: Any, height: int) -> None:
    """Gives each block of ``make_stacks`` the labels of the first one's vertical axes."""
    for row in range(height, len(panels)):
        panels[row, 0].set_ylabel(panels[row % height, 0].get_ylabel())


def case_title(dataset: str, architecture: str) -> str:
    """What readers call a data set with an architecture."""
    return f"{image_set(dataset).title}, {architecture}"


def draw_curve(panel: Axes, curve: Curve, look: Look, order: int, label: str) -> None:
    """A model's line with its band; ``order`` tells it from the panel's other lines."""
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


def draw_layers(panel: Axes, curves: Sequence[Curve]) -> None:
    """A line a layer, numbered where few enough: the numbers must not cover each other."""
    colours = layer_shades(len(curves))
    for layer, (curve, colour) in enumerate(zip(curves, colours, strict=True), start=1):
        if len(curves) <= MOST_BANDS:
            _band(panel, curve, colour)
            _number(panel, curve, layer, len(curves), colour)
        # What was measured, where there is more line than that.
        marker = "." if len(curve.epochs) <= MOST_MARKED else None
        panel.plot(curve.epochs, curve.mean, color=colour, marker=marker, zorder=3)


def _number(panel: Axes, curve: Curve, layer: int, layers: int, colour: Any) -> None:
    """The layer's number on its line; every layer's at another epoch."""
    epoch = curve.epochs[0] + (curve.epochs[-1] - curve.epochs[0]) * (layer - 0.4) / (layers + 0.2)
    height = numpy.interp(epoch, curve.epochs, curve.mean)
    if panel.get_yscale() == "log":  # where lines are straight, too
        height = numpy.exp(numpy.interp(epoch, curve.epochs, numpy.log(curve.mean)))
    panel.annotate(
        str(layer),
        (epoch, float(height)),
        color=colour,
        ha="center",
        va="center",
        annotation_clip=True,
        bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        zorder=4,
    )


def _band(panel: Axes, curve: Curve, colour: Any) -> None:
    if (curve.high > curve.low).any():
        panel.fill_between(
            curve.epochs, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0, zorder=2
        )


def add_guide(panel: Axes, height: float) -> None:
    """A grey line at a value to compare with, if the axis shows it; call it once limits are set."""
    low, high = panel.get_ylim()
    if low < height < high:
        panel.axhline(height, color="0.5", linewidth=0.8, zorder=1)


def add_layer_bar(figure: Figure, panels: Sequence[Axes], layers: int) -> None:
    """The key to the layers' colours, right of the panels."""
    edges = numpy.arange(layers + 1) + 0.5
    colours = ListedColormap(layer_shades(layers))
    bar = figure.colorbar(
        ScalarMappable(BoundaryNorm(edges, layers), colours),
        ax=panels,
        ticks=MaxNLocator(8, integer=True),
        label="layer (1: input side)",
        aspect=max(30, 8 * figure.get_figheight()),
        pad=0.01,
    )
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)


def log_axis(panel: Axes, low: float, high: float) -> None:
    """From low to high: powers of ten, and 2 and 5 between them where they are few."""
    panel.set(yscale="log", ylim=(low, high))
    marks = LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 300 else (1.0,), numticks=7)
    few = sum(low <= each <= high for each in marks.tick_values(low, high)) < 2
    panel.yaxis.set_major_locator(MaxNLocator(4) if few else marks)
    panel.yaxis.set_minor_locator(NullLocator())
    if low > 1e-4 and high < 2e3:
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def epoch_axes(panels: Any) -> None:
    """Whole epochs on every panel; a column's lowest panel is labelled."""
    for panel in panels.flat:
        panel.xaxis.set_major_locator(
            MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10], min_n_ticks=1)
        )
        panel.tick_params(labelbottom=False)
    for column in panels.T:
        lowest = [panel for panel in column if panel.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel("epoch")


def add_note(
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
