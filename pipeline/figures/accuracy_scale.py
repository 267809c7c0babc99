"""Accuracies on the logarithm of the error: 98 and 99 % are as far apart as 80 and 90 %."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from pipeline.figures.curves import LEAST_ERROR

_ROUND = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


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
