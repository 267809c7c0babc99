"""A sweep's accuracies over two of its settings: cells where both have a list, else dots."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import pandas
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from pipeline.figures.accuracy_scale import error_percent, error_range, label_accuracies
from pipeline.figures.heat_marks import draw_cells, draw_dots
from pipeline.figures.panels import make_panels
from pipeline.figures.style import style
from pipeline.figures.swept_axes import choose_axes
from pipeline.params.labels import setting_name, spread_text
from pipeline.results.trial_ranking import METRIC, best_trial
from pipeline.training.epochs import FAILED, STOPPED

CELL_HEIGHT, DOTS_HEIGHT = 0.36, 1.9
"""Inches: a number with its spread beneath it; a panel of dots."""

MOST_NARROW, MOST_NUMBERED = 8, 18
"""With more cells in a row, panels take the whole width; with yet more, no number fits in them."""

_SCALE = "accuracy (%),\non the logarithm of the error"


def heat_map(
    trials: pandas.DataFrame, rules: Mapping[str, str], space: Mapping[str, Any], title: str = ""
) -> Figure:
    """Mean validation accuracy (percent) and its spread over two swept settings, a panel a rule.

    A cell stands for the best trial there over all other settings. One colour scale, that of the
    error's logarithm, is shared by all panels. Each rule's best trial is outlined. Where a setting
    was drawn from a distribution, every trial is a dot.

    Args:
        trials: as ``pipeline.results.trial_ranking`` describes it; of equally good ones the first
            is best.
        rules: their names for readers, by rule: a panel each, in this order.
        space: what was swept, by dotted name: the list of values, or a distribution.
        title: above all panels.
    """
    across, up, others = choose_axes(trials, space)
    cells = across.categories is not None and up.categories is not None
    numbered = across.length <= MOST_NUMBERED
    with style():
        columns = 2 if len(rules) > 1 and (not cells or across.length <= MOST_NARROW) else 1
        cell_height = CELL_HEIGHT if numbered else CELL_HEIGHT / 2
        height = 0.35 + cell_height * up.length if cells else DOTS_HEIGHT
        rows = math.ceil(len(rules) / columns)
        figure, panels = make_panels(rows, columns, height, sharex=True, sharey=True)
        limits = error_range(error_percent(trials.loc[trials.status != FAILED, METRIC]))
        colours = ScalarMappable(LogNorm(*limits), colormaps["viridis_r"])
        for place, panel in enumerate(panels.flat):
            if place >= len(rules):
                panel.set_visible(False)
                continue
            rule, name = list(rules.items())[place]
            of_rule = trials[trials.rule == rule]
            panel.set_title(_panel_title(name, of_rule), loc="left")
            across.label(panel, "x", trials, outer=place + columns >= len(rules))
            up.label(panel, "y", trials, outer=place % columns == 0)
            if cells:
                draw_cells(panel, colours, of_rule, (across, up), numbered)
            else:
                draw_dots(panel, colours, of_rule, (across, up))
        # Beside a row or two the bar would be too low to read, and their cells have numbers.
        if not (cells and numbered) or rows * up.length > 2:
            _add_bar(figure, colours, limits)
        figure.suptitle(title)
        note = _note(trials, others, cells and numbered, cells)
        figure.supxlabel(textwrap.fill(note, 115), color="0.3")
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


def _note(
    trials: pandas.DataFrame,
    others: list[str],
    numbered: bool,
    cells: bool,
) -> str:
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
