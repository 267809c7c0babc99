"""The axes of a sweep's figures: two of its settings, and accuracies.

Accuracies are on the logarithm of the error: 98 and 99 % are as far apart as 80 and 90 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pipeline.figures.curves import LEAST_ERROR
from pipeline.params.labels import setting_name, value_text
from pipeline.results.trial_ranking import hashable, swept_settings

_LOG_RATIO = 20.0
"""An axis of numbers further apart than this is logarithmic."""

_WIDE_RATIO = 300.0
"""Of numbers further apart than this, powers of ten alone are marked."""

_ROUND = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Errors, in percent, of round accuracies."""


@dataclass(frozen=True)
class SweptAxis:
    """A swept setting: the listed values as categories side by side, or a range of numbers.

    λ = 0 has its place beside powers of ten only as a category.
    """

    name: str
    categories: tuple[Any, ...] | None

    def place(self, row: Mapping[str, Any]) -> float:
        """Where a trial lies."""
        if self.categories is None:
            return float(row[self.name])
        return self.categories.index(hashable(row[self.name])) if self.name else 0

    @property
    def length(self) -> float:
        """How many categories there are."""
        return math.inf if self.categories is None else len(self.categories)

    def label(self, panel: Axes, which: str, trials: pandas.DataFrame, outer: bool) -> None:
        """Sets up a panel's axis (``x`` or ``y``); an outer one is named, with its values."""
        axis = getattr(panel, f"{which}axis")
        if outer:
            axis.set_label_text(setting_name(self.name))
        if self.categories is None:
            values = trials[self.name].astype(float)
            if values.min() > 0 and values.max() > _LOG_RATIO * values.min():
                panel.set(**{f"{which}scale": "log"})
                # Matplotlib's own labels of less than a decade or two cover each other.
                wide = values.max() > _WIDE_RATIO * values.min()
                axis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5), numticks=7))
                axis.set_minor_locator(NullLocator())
                axis.set_major_formatter(FuncFormatter(lambda value, _: value_text(value)))
        else:
            axis.set_ticks(range(len(self.categories)), [value_text(v) for v in self.categories])
            panel.set(**{f"{which}lim": (-0.5, len(self.categories) - 0.5)})
            axis.set_tick_params(length=0)
        axis.set_tick_params(**{f"label{'bottom' if which == 'x' else 'left'}": outer})


NO_AXIS = SweptAxis("", ("",))
"""Stands for the second setting where only one is swept."""


def choose_axes(
    trials: pandas.DataFrame, space: Mapping[str, Any]
) -> tuple[SweptAxis, SweptAxis, list[str]]:
    """Those across and up, and the names of the other settings, over which the best is shown.

    The first two of more than one value, of numbers if possible. The one with more values goes
    across, where a page has more room.
    """
    axes = [SweptAxis(name, _categories(space[name])) for name in swept_settings(trials)]
    first, second = [*sorted(axes, key=_unsuitable), NO_AXIS][:2]
    across, up = (first, second) if first.length > second.length else (second, first)
    shown = (across.name, up.name)
    return across, up, [axis.name for axis in axes if axis.name not in shown and axis.length > 1]


def _unsuitable(axis: SweptAxis) -> tuple[bool, bool]:
    numeric = all(isinstance(value, int | float) for value in axis.categories or ())
    return axis.length == 1, not numeric


def _categories(values: Any) -> tuple[Any, ...] | None:
    """Of a list, numbers ascending; None of a distribution."""
    if not isinstance(values, list | tuple):
        return None
    keys = [hashable(value) for value in values]
    numeric = all(isinstance(key, int | float) for key in keys)
    return tuple(sorted(keys) if numeric else keys)


def error_percent(accuracy: Any) -> Any:
    """The error of an accuracy (a fraction); none is below what a log axis can show."""
    return numpy.clip(100 * (1 - numpy.asarray(accuracy, float)), LEAST_ERROR, None)


def error_range(errors: Iterable[float]) -> tuple[float, float]:
    """The least and the greatest of some errors, never too close to tell them apart."""
    finite = [error for error in errors if numpy.isfinite(error)] or [LEAST_ERROR, 100.0]
    low, high = min(finite), max(finite)
    return (low, high) if high > 1.2 * low else (low / 1.1, high * 1.1)


def label_accuracies(axis: Axis, low: float, high: float) -> None:
    """Marks a log axis of errors (percent) from low to high with round accuracies."""
    marks = [error for error in _ROUND if low <= error <= high]
    if len(marks) < 3:
        marks = [e for e in MaxNLocator(4).tick_values(low, high) if low <= e <= high]
    axis.set_major_locator(FixedLocator(marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 - error:.4g}"))
