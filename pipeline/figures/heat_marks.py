"""What stands for a trial in a heat map: a cell with its numbers, or a dot."""

from __future__ import annotations

from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Rectangle

from pipeline.figures.accuracy_scale import error_percent
from pipeline.figures.swept_axes import SweptAxis
from pipeline.results.trial_ranking import METRIC, best_trial, ranked
from pipeline.training.epochs import FAILED, STOPPED

_SMALL = 6.5
"""Points: type of what stands beneath a number."""


def draw_cells(
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
        if row["status"] == FAILED:
            _fill(panel, place, facecolor="0.93", hatch="////", edgecolor="0.7")
        else:
            _fill(panel, place, facecolor=_colour(colours, row))
        if numbered:
            _write(panel, place, row, _colour(colours, row))
    for place in numpy.ndindex(int(across.length), int(up.length)):
        if place not in cells:
            panel.text(*place, "not run", fontsize=_SMALL, color="0.45", ha="center", va="center")
    best = best_trial(trials)
    if best is not None:
        corner = (across.place(best) - 0.5, up.place(best) - 0.5)
        panel.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=1.8, clip_on=False, zorder=4))


def draw_dots(
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


def _fill(panel: Axes, place: tuple[float, float], **look: Any) -> None:
    """Paints a cell but for a narrow margin, so that neighbours of one colour stay apart."""
    left, below = place[0] - 0.48, place[1] - 0.47
    panel.add_patch(Rectangle((left, below), 0.96, 0.94, **{"linewidth": 0, **look}))


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
