"""Histories to curves: means and spreads over the seeds, at as many epochs as an eye can see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy
import pandas
from numpy.typing import NDArray

Array = NDArray[numpy.float64]

MOST_BANDS = 8
"""With more layers than this, bands would cover each other, so lines stand alone."""

MOST_VERTICES = 5_000
"""In one figure, at some 25 bytes each; epochs are left out beyond, which no eye can see."""

LEAST_ERROR = 0.01
"""Percent: an error axis shows no less, or one lone error would stretch it by decades."""

QUANTITIES = {"validation": "validation", "training": "train"}
"""What is drawn of a history, and how its columns' names begin."""


class Curve(NamedTuple):
    """A quantity over E epochs; the bounds are the mean's own for a single seed."""

    epochs: Array
    mean: Array
    low: Array
    high: Array


_Averaging = Callable[[pandas.DataFrame, int], Curve]


def by_seed(history: pandas.DataFrame, column: str) -> pandas.DataFrame:
    """(E, S): a row an epoch, a column a seed; epochs without a value are left out."""
    table = history.pivot(index="epoch", columns="seed", values=column)
    return table.dropna(how="all")


def error_rates(history: pandas.DataFrame, quantity: str) -> pandas.DataFrame:
    """(E, S), percent: the share of images that is not classified correctly."""
    return 100 * (1 - by_seed(history, f"{QUANTITIES[quantity]}_accuracy"))


def arithmetic_mean(values: pandas.DataFrame, limit: int) -> Curve:
    """Mean ± sample standard deviation over the seeds, at ``limit`` epochs at most."""
    values = thinned(values, limit)
    mean = numpy.asarray(values.mean(axis=1), float)
    spread = numpy.asarray(values.std(axis=1, ddof=1).fillna(0.0), float)
    return Curve(numpy.asarray(values.index, float), mean, mean - spread, mean + spread)


def geometric_mean(values: pandas.DataFrame, limit: int) -> Curve:
    """The same of the logarithm: on a log axis the band is symmetric and never reaches zero."""
    epochs, *logarithms = arithmetic_mean(numpy.log(values.where(values > 0)), limit)
    return Curve(epochs, *map(numpy.exp, logarithms))


def layer_curves(
    history: pandas.DataFrame, quantity: str, average: _Averaging, limit: int
) -> list[Curve]:
    """One curve a layer, layer 1 first."""
    return [
        average(by_seed(history, f"{quantity}_layer_{layer}"), limit)
        for layer in range(1, count_layers(history) + 1)
    ]


def count_layers(history: pandas.DataFrame) -> int:
    """Of the network whose history it is."""
    return sum(column.startswith("bp_cosine_layer_") for column in history.columns)


def thinned(values: pandas.DataFrame, limit: int) -> pandas.DataFrame:
    """``limit`` rows at most, evenly spaced, with the first and the last."""
    if len(values) <= limit:
        return values
    return values.iloc[numpy.unique(numpy.linspace(0, len(values) - 1, limit).round().astype(int))]


def epoch_limit(lines: int, bands: bool = True) -> int:
    """How many epochs a figure of so many lines shows; a band has two vertices for each of them."""
    return max(20, MOST_VERTICES // ((3 if bands else 1) * lines))


def error_floor(curves: Iterable[Curve]) -> float:
    """Where the log axis of an error (percent) ends: a little below the smallest mean but zero."""
    positive = [curve.mean[curve.mean > 0].min(initial=100.0) for curve in curves]
    return min(max(0.7 * float(min(positive)), LEAST_ERROR), 20.0)


def raised(curve: Curve, least: float) -> Curve:
    """The curve with everything below ``least`` put at it."""
    epochs, *values = curve
    return Curve(epochs, *(each.clip(least) for each in values))
