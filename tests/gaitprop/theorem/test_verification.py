"""What ``gait verify`` measures: against the oracles, and able to fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gaitprop import RULES, LayerGradient
from gaitprop.theorem.comparison import (
    Problem,
    backpropagation,
    crossings,
    orthogonal_problem,
    relative_differences,
)
from gaitprop.theorem.degradation import depart
from gaitprop.theorem.verification import Verification, compare
from tests.gaitprop.oracles import Case, autograd_gradients, literal, random_case, relative

SMALL = ((8, 8, 8, 8), (9, 7, 5, 3))


def problem_of(case: Case) -> Problem:
    network = case.network()
    network.weights = [weight[None] for weight in network.weights]
    network.biases = [bias[None] for bias in network.biases]
    return Problem(
        network, torch.tensor(case.inputs), torch.tensor(case.labels), n_classes=case.n_classes
    )


@pytest.mark.parametrize("slope", [0.1, 1.0])
@pytest.mark.parametrize("widths", SMALL)
def test_the_reference_is_autograd(widths: tuple[int, ...], slope: float) -> None:
    case = random_case(widths, slope, batch=6)
    expected = autograd_gradients(case, 0.0)
    for received, (weight, bias) in zip(backpropagation(problem_of(case)), expected, strict=True):
        assert relative(received.weight[0].numpy(), weight) < 1e-13
        assert relative(received.bias[0].numpy(), bias) < 1e-13


@pytest.mark.parametrize("rule", ["gait", "itp", "tp"])
@pytest.mark.parametrize("widths", SMALL)
def test_crossings_are_those_of_the_literal_form(widths: tuple[int, ...], rule: str) -> None:
    """Sample by sample, in exact arithmetic, at a γ that pushes many units."""
    case = random_case(widths, 0.5, "near", batch=60)
    masks = literal(case, rule, 0.6, digits=60).crossings
    expected = sum(mask.sum(1) for mask in masks)
    assert expected.max() > 1
    assert expected.min() == 0
    assert np.array_equal(crossings(problem_of(case), rule, 0.6).numpy(), expected)


def test_bp_and_linear_networks_push_no_unit() -> None:
    assert not crossings(problem_of(random_case((8, 8, 8), 0.5)), "bp", 0.5).any()
    assert not crossings(problem_of(random_case((8, 8, 8), 1.0)), "tp", 0.5).any()


def test_relative_differences_by_hand() -> None:
    def layer(weight: list[float], bias: float) -> LayerGradient:
        return LayerGradient(torch.tensor([weight]), torch.tensor([bias]))

    ours = [layer([3.0, 4.0], 1.0), layer([1.0, 0.0], 3.0), layer([math.nan, 0.0], 1.0)]
    theirs = [layer([3.0, 0.0], 1.0), layer([1.0, 0.0], 2.0), layer([1.0, 0.0], 1.0)]
    assert relative_differences(ours, theirs) == [pytest.approx(4 / 3), 0.5, math.inf]


def test_problems_are_drawn_from_their_seed() -> None:
    one, same, other = (orthogonal_problem((12, 12, 4), "linear", seed) for seed in (3, 3, 4))
    assert torch.equal(one.inputs, same.inputs)
    assert torch.equal(one.network.biases[0], same.network.biases[0])
    assert not torch.equal(one.inputs, other.inputs)
    assert one.n_classes == 4
    assert one.network.activation.slope == 1.0
    single = one.rounded(torch.float32)
    assert single.network.dtype == single.inputs.dtype == torch.float32
    assert single.network.widths == (12, 12, 4)


@pytest.mark.parametrize("widths", SMALL)
def test_every_row_of_a_sound_library_holds(widths: tuple[int, ...]) -> None:
    for activation in ("leaky_relu", "linear"):
        rows = compare(widths, activation, tuple(RULES), 1e-2, (0, 1), batch=20)
        assert [row.precision for row in rows] == ["float64"] * 4 + ["float32"] * 4
        for row in rows:
            theorem = row.rule in ("bp", "gait") or activation == "linear"
            assert row.holds is (True if theorem else None)
            assert row.samples == 40
            assert row.units == 40 * sum(widths[2:])
            assert (row.literal is None) == (row.rule == "bp")
            if not theorem:
                assert row.stable > 0.1
                assert row.left_out == 0


def test_samples_with_a_unit_across_the_kink_are_counted_and_left_out() -> None:
    (row, _) = compare((16,) * 4, "leaky_relu", ("gait",), 0.5, (0, 1), batch=100)
    drawn = [orthogonal_problem((16,) * 4, "leaky_relu", seed, 100) for seed in (0, 1)]
    counts = torch.cat([crossings(problem, "gait", 0.5) for problem in drawn])
    assert row.crossings == int(counts.sum())
    assert row.left_out == int((counts > 0).sum())
    assert 20 < row.left_out < 180
    assert row.holds
    assert row.stable < 1e-13 < 1e-3 < row.whole_batch


def test_without_a_sample_left_nothing_is_shown() -> None:
    """Two classes, two units, a step of the whole error: every sample has a crossing."""
    rows = compare((2, 2, 2), "leaky_relu", ("gait",), 1.0, (1,), batch=1)
    problem = orthogonal_problem((2, 2, 2), "leaky_relu", 1, 1)
    assert crossings(problem, "gait", 1.0).any()
    assert [(row.stable, row.left_out, row.holds) for row in rows] == [(math.inf, 1, False)] * 2


@pytest.mark.parametrize("broken", ["bp", "gait"])
def test_a_broken_rule_fails(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that forgets a factor of 1.01."""
    sound = RULES[broken]
    monkeypatch.setitem(RULES, broken, lambda *view: 1.01 * sound(*view))
    rows = compare((8, 8, 8), "leaky_relu", ("bp", "gait"), 1e-3, (0,))
    assert {row.rule for row in rows if row.holds is False} == {broken}
    assert not Verification(rows, [], []).holds
    assert Verification([row for row in rows if row.rule != broken], [], []).holds
    departure = depart((8, 8, 8), 1e-6, (0,))
    assert departure.holds is (broken == "bp")
    assert Verification([], [], [departure]).holds is departure.holds
