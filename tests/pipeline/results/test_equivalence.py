"""The equivalence test against scipy's one-sided tests, a worked example and simulated seeds."""

from __future__ import annotations

import math

import numpy
import pytest
from scipy import stats

from pipeline.results.equivalence import (
    ALPHA,
    MARGIN,
    deviation_interval,
    paired_test,
    power,
    seeds_needed,
    untestable,
)


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
@pytest.mark.parametrize("shift", [-0.02, -0.004, 0.0, 0.009, 0.015])
def test_agrees_with_two_one_sided_tests(seeds: int, shift: float) -> None:
    draw = numpy.random.default_rng(seeds)
    others = draw.normal(0.98, 0.004, seeds)
    ours = others + draw.normal(shift, 0.003, seeds)
    found = paired_test((ours - others).tolist())
    above = stats.ttest_rel(ours, others - MARGIN, alternative="greater").pvalue
    below = stats.ttest_rel(ours, others + MARGIN, alternative="less").pvalue
    assert found.p_value == pytest.approx(max(above, below), rel=1e-9)
    interval = stats.ttest_rel(ours, others).confidence_interval(1 - 2 * ALPHA)
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-9)
    assert found.shown == (above < ALPHA and below < ALPHA)
    assert found.shown == (found.low > -MARGIN and found.high < MARGIN)


def test_by_hand() -> None:
    # Mean 0, deviation 0.01, so a standard error of 0.005; t = 0.02 / 0.005 = 4 with 3 degrees of
    # freedom, whose 95th percentile is 2.353.
    values = [-0.5, -0.5, 0.5, 0.5]
    values = [value * 0.02 * math.sqrt(3) / 2 for value in values]
    found = paired_test(values, margin=0.02)
    assert found.deviation == pytest.approx(0.01)
    assert found.p_value == pytest.approx(0.0140, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((-0.01177, 0.01177), abs=5e-6)
    assert found.shown and not found.refuted


@pytest.mark.parametrize("shift", [-0.05, 0.05])
def test_a_difference_beyond_the_margin_is_refuted(shift: float) -> None:
    found = paired_test([shift - 0.001, shift, shift + 0.001])
    assert found.refuted and not found.shown
    assert found.p_value > 0.99


def test_neither_shown_nor_refuted() -> None:
    found = paired_test([-0.02, 0.0, 0.02])
    assert not found.refuted and not found.shown


@pytest.mark.parametrize("edge", [-MARGIN, MARGIN])
def test_unequal_models_are_seldom_called_equivalent(edge: float) -> None:
    """At the margin itself the test errs with the probability ALPHA."""
    draw = numpy.random.default_rng(7)
    trials = draw.normal(edge, 0.002, (2000, 5))
    errors = sum(paired_test(differences.tolist()).shown for differences in trials)
    assert errors / len(trials) == pytest.approx(ALPHA, abs=3 * math.sqrt(0.05 * 0.95 / 2000))


@pytest.mark.parametrize("difference", [0.0, 0.004, -0.008, 0.015])
@pytest.mark.parametrize(("seeds", "deviation"), [(3, 0.003), (5, 0.0066), (5, 0.02), (12, 0.012)])
def test_power_is_how_often_such_models_pass(
    seeds: int, deviation: float, difference: float
) -> None:
    draw = numpy.random.default_rng(11)
    trials = draw.normal(difference, deviation, (2000, seeds))
    passed = sum(paired_test(differences.tolist()).shown for differences in trials)
    found = power(seeds, deviation, difference)
    assert found == pytest.approx(passed / len(trials), abs=0.03)


def test_the_deviations_interval_holds_the_true_one_as_often_as_it_says() -> None:
    samples = numpy.random.default_rng(5).normal(0, 0.007, (4000, 5)).std(axis=1, ddof=1)
    bounds = [deviation_interval(5, each) for each in samples]
    assert numpy.mean([low > 0.007 for low, _ in bounds]) == pytest.approx(0.05, abs=0.012)
    assert numpy.mean([high < 0.007 for _, high in bounds]) == pytest.approx(0.05, abs=0.012)


def test_seeds_needed_are_the_fewest() -> None:
    needed = seeds_needed(0.0066)
    assert needed is not None
    assert power(needed, 0.0066) >= 0.8 > power(needed - 1, 0.0066)
    assert seeds_needed(1.0) is None
    assert seeds_needed(0.0066, 0.0099) is None
    assert (seeds_needed(0.0066, 0.005) or 0) > needed


@pytest.mark.parametrize(
    ("values", "why"),
    [([], "one seed"), ([0.1], "one seed"), ([0.01] * 5, "the same for all seeds")],
)
def test_what_cannot_be_tested(values: list[float], why: str) -> None:
    assert why in (untestable(values) or "")
    with pytest.raises(ValueError, match=why):
        paired_test(values)
