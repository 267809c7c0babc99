"""A sweep's accuracies over two of its settings: cells where both have a list, else dots."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy
import pandas
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.figures.panels import make_panels
from pipeline.figures.style import style
from pipeline.figures.swept_axes import (
    SweptAxis,
    choose_axes,
    error_percent,
    error_range,
    label_accuracies,
)
from pipeline.params.labels import setting_name, spread_text
from pipeline.results.trial_ranking import METRIC, best_trial, ranked
from pipeline.training.epochs import FAILED, STOPPED

CELL_HEIGHT, DOTS_HEIGHT = 0.36, 1.9
"""Inches: a number with its spread beneath it; a panel of dots."""

MOST_NARROW, MOST_NUMBERED = 8, 18
"""With more cells in a row, panels take the whole width; with yet more, no number fits in them."""

_SMALL = 6.5
"""Points: type of what stands beneath a number."""

_SCALE = "accuracy (%),\non the logarithm of the error"


@style()
def heat_map(
    trials: pandas.DataFrame, rules: Mapping[str, str], space: Mapping[str, Any], title: str = ""
) -> Figure:
    """Mean validation accuracy (percent) and its spread over two swept settings, a panel a rule.

    A cell stands for the best trial there over all other settings. One colour scale, that of the
    error's logarithm, is shared by all panels. Each rule's best trial is outlined. Where a setting
    was drawn from a distribution, every trial is a dot.

    ``rules`` has names for readers, by rule: a panel each, in this order; ``space`` what was swept,
    by dotted name: the list of values, or a distribution. Of equally good trials the first is best.
    """
    across, up, others = choose_axes(trials, space)
    cells = across.categories is not None and up.categories is not None
    numbered = cells and across.length <= MOST_NUMBERED
    columns = 2 if len(rules) > 1 and (not cells or across.length <= MOST_NARROW) else 1
    cell_height = CELL_HEIGHT if numbered else CELL_HEIGHT / 2
    height = 0.35 + cell_height * up.length if cells else DOTS_HEIGHT
    rows = math.ceil(len(rules) / columns)
    figure, panels = make_panels(rows, columns, height, sharex=True, sharey=True)
    limits = error_range(error_percent(trials.loc[trials.status != FAILED, METRIC]))
    colours = ScalarMappable(LogNorm(*limits), colormaps["viridis_r"])
    for panel in panels.flat[len(rules) :]:
        panel.set_visible(False)
    for place, (panel, rule) in enumerate(zip(panels.flat, rules, strict=False)):
        of_rule = trials[trials.rule == rule]
        panel.set_title(_panel_title(rules[rule], of_rule), loc="left")
        across.label(panel, "x", trials, outer=place + columns >= len(rules))
        up.label(panel, "y", trials, outer=place % columns == 0)
        if cells:
            _draw_cells(panel, colours, of_rule, (across, up), numbered)
        else:
            _draw_dots(panel, colours, of_rule, (across, up))
    # Beside a row or two the bar would be too low to read, and their cells have numbers.
    if not numbered or rows * up.length > 2:
        _add_bar(figure, colours, limits)
    figure.suptitle(title)
    note = textwrap.fill(_note(trials, others, numbered, cells), 115)
    figure.supxlabel(note, color="0.3")
    return figure


def _panel_title(name: str, trials: pandas.DataFrame) -> str:
    best = best_trial(trials)
    if best is None:
        return f"{name}: no trial finished"
    return f"{name}: best {spread_text(best, 'validation_accuracy', 100, 2)} %"


def _add_bar(figure: Figure, colours: ScalarMappable, limits: tuple[float, float]) -> None:
    """The key to the colours: accuracies, better ones above."""
    bar = figure.colorbar(colours, ax=figure.axes, label=_SCALE, aspect=30, pad=0.01)
    bar.ax.invert_yaxis()
    label_accuracies(bar.ax.yaxis, *limits)
    bar.ax.tick_params(length=2)
    bar.outline.set_visible(False)


def _note(trials: pandas.DataFrame, others: list[str], numbered: bool, cells: bool) -> str:
    """Below the panels: what numbers and marks are, as far as they occur."""
    parts = []
    if numbered:
        spread = ", beneath it ± 1 standard deviation over the seeds (percentage points)"
        known = trials.validation_accuracy_std.notna().any()
        parts.append(f"Number: mean validation accuracy (%){spread if known else ', one seed'}.")
    if others:
        best_of = ", ".join(setting_name(name) for name in others)
        parts.append(f"Each cell: the best over {best_of}." if cells else f"Not shown: {best_of}.")
    parts.append(f"{'Outlined' if cells else 'Ringed'}: the rule's best.")
    if (trials.status == STOPPED).any():
        parts.append(f"{'*' if cells else 'Small'}: stopped early.")
    if (trials.status == FAILED).any():
        parts.append(f"{'Hatched' if cells else '×'}: failed.")
    return " ".join(parts)


def _draw_cells(
    panel: Axes,
    colours: ScalarMappable,
    trials: pandas.DataFrame,
    axes: tuple[SweptAxis, SweptAxis],
    numbered: bool,
) -> None:
    """A cell for each pair of categories, with its best trial's figures; the best one outlined."""
    across, up = axes
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    cells: dict[tuple[float, float], dict[str, Any]] = {}
    for row in ranked(trials).to_dict("records"):
        cells.setdefault((across.place(row), up.place(row)), row)
    for place, row in cells.items():
        colour = _colour(colours, row)
        look: dict[str, Any] = {"facecolor": colour, "linewidth": 0}
        if row["status"] == FAILED:
            look |= {"facecolor": "0.93", "hatch": "////", "edgecolor": "0.7"}
        # A narrow margin keeps neighbours of one colour apart.
        corner = (place[0] - 0.48, place[1] - 0.47)
        panel.add_patch(Rectangle(corner, 0.96, 0.94, **look))
        if numbered:
            _write(panel, place, row, colour)
    for place in numpy.ndindex(int(across.length), int(up.length)):
        if place not in cells:
            panel.text(*place, "not run", fontsize=_SMALL, color="0.45", ha="center", va="center")
    best = best_trial(trials)
    if best is not None:
        corner = (across.place(best) - 0.5, up.place(best) - 0.5)
        panel.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=1.8, clip_on=False, zorder=4))


def _draw_dots(
    panel: Axes,
    colours: ScalarMappable,
    trials: pandas.DataFrame,
    axes: tuple[SweptAxis, SweptAxis],
) -> None:
    """A dot for every trial, small if it was stopped, a cross if it failed; the best one ringed."""
    # The worst first: better ones are drawn over them.
    for order, row in enumerate(reversed(ranked(trials).to_dict("records"))):
        place = [axis.place(row) for axis in axes]
        if row["status"] == FAILED:
            panel.plot(*place, "x", color="0.5", markersize=5, zorder=3)
            continue
        panel.plot(
            *place,
            "o",
            color=_colour(colours, row),
            markersize=4 if row["status"] == STOPPED else 7,
            markeredgecolor="white",
            markeredgewidth=0.5,
            zorder=3 + order / len(trials),
        )
    best = best_trial(trials)
    if best is not None:
        place = [axis.place(best) for axis in axes]
        panel.plot(*place, "o", color="none", markeredgecolor="black", markersize=10, zorder=5)


def _write(
    panel: Axes, place: tuple[float, float], row: dict[str, Any], background: tuple[float, ...]
) -> None:
    """A cell's number and its spread, or that it failed."""
    x, y = place
    if row["status"] == FAILED:
        box = {"boxstyle": "square,pad=0.15", "facecolor": "white", "linewidth": 0}
        panel.text(x, y, "failed", fontsize=_SMALL, ha="center", va="center", bbox=box)
        return
    look: dict[str, Any] = {"color": _readable_on(background), "ha": "center"}
    star = "*" if row["status"] == STOPPED else ""
    number = f"{100 * row[METRIC]:.1f}{star}"
    deviation = 100 * row["validation_accuracy_std"]
    if numpy.isnan(deviation):
        panel.text(x, y, number, va="center", **look)
        return
    panel.text(x, y + 0.16, number, va="center", **look)
    panel.text(x, y - 0.24, f"± {deviation:.1f}", fontsize=_SMALL, va="center", **look)


def _colour(colours: ScalarMappable, row: dict[str, Any]) -> tuple[float, ...]:
    return tuple(colours.to_rgba(error_percent(row[METRIC])))


def _readable_on(background: tuple[float, ...]) -> str:
    """Black or white, whichever has the greater contrast (WCAG 2.2, relative luminance)."""
    channels = numpy.asarray(background[:3])
    linear = numpy.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if numpy.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "white"
