"""Are two models equally good? Two one-sided t tests (TOST), paired over the seeds.

A test for a difference that finds none shows nothing: with few seeds it finds none anyway. Here the
null hypothesis is that the mean difference is the margin or more, one way or the other, so few
seeds or a wide spread count against equality and not for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy import stats

MARGIN = 0.01
"""Of accuracy. One percentage point is what "near-identically" is taken to mean here: fixed before
any result was tested against it, for every profile, and below what would make anyone choose one
rule over another that has other merits."""

ALPHA = 0.05
"""Of each one-sided test, and so the most often that unequal models are called equivalent."""

POWER = 0.8
MOST_SEEDS = 200


@dataclass(frozen=True)
class Equivalence:
    """What the test says of paired differences."""

    seeds: int
    mean: float
    deviation: float  # the sample's
    # The mean's interval of confidence 1 − 2 ALPHA: within ±margin just where equivalence is shown.
    low: float
    high: float
    p_value: float  # the larger of the two one-sided ones
    margin: float

    @property
    def shown(self) -> bool:
        """Whether the models are equivalent to within the margin."""
        return self.p_value < ALPHA

    @property
    def refuted(self) -> bool:
        """Whether the whole interval is beyond the margin."""
        return self.low > self.margin or self.high < -self.margin


def paired_test(differences: Sequence[float], margin: float = MARGIN) -> Equivalence:
    """Tests whether the mean difference is nearer to zero than the margin, which is more than 0.

    Raises:
        ValueError: see ``untestable``.
    """
    if (why := untestable(differences)) is not None:
        raise ValueError(why)
    values = numpy.asarray(differences, float)
    count = len(values)
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    error = deviation / math.sqrt(count)
    half = float(stats.t.ppf(1 - ALPHA, count - 1)) * error
    nearest = margin - abs(mean)
    return Equivalence(
        seeds=count,
        mean=mean,
        deviation=deviation,
        low=mean - half,
        high=mean + half,
        # The nearer bound's test is the one with the larger p.
        p_value=float(stats.t.sf(nearest / error, count - 1)),
        margin=margin,
    )


def untestable(differences: Sequence[float]) -> str | None:
    """Why the test cannot be made of these; None if it can."""
    if len(differences) < 2:
        return "one seed has no spread: two at least are needed, and some five to show anything"
    if numpy.ptp(numpy.asarray(differences, float)) < 1e-12:
        return "the differences are the same for all seeds: Student's t has no spread to go by"
    return None


def power(seeds: int, deviation: float, difference: float = 0.0) -> float:
    """How likely the test is to show equivalence.

    The true standard deviation of the paired differences is more than 0; ``difference`` is their
    true mean.
    """
    # The mean over the sample's own deviation, which chi² has the distribution of, by quantiles.
    quantiles = (numpy.arange(2000) + 0.5) / 2000
    sample = deviation * numpy.sqrt(stats.chi2.ppf(quantiles, seeds - 1) / (seeds - 1))
    error = deviation / math.sqrt(seeds)
    # The test passes if the mean is no further from 0 than this.
    room = numpy.maximum(MARGIN - stats.t.ppf(1 - ALPHA, seeds - 1) * sample / math.sqrt(seeds), 0)
    above, below = (stats.norm.cdf((each - difference) / error) for each in (room, -room))
    return float(numpy.mean(above - below))


def seeds_needed(deviation: float, difference: float = 0.0) -> int | None:
    """The fewest seeds of which the test has the power ``POWER``; None above ``MOST_SEEDS``."""
    enough = (n for n in range(2, MOST_SEEDS + 1) if power(n, deviation, difference) >= POWER)
    return next(enough, None)


def deviation_interval(seeds: int, deviation: float) -> tuple[float, float]:
    """What the true deviation may be, with a confidence of 1 − 2 ALPHA, by chi²."""
    low, high = stats.chi2.ppf([1 - ALPHA, ALPHA], seeds - 1)
    return deviation * math.sqrt((seeds - 1) / low), deviation * math.sqrt((seeds - 1) / high)
