"""What ``gait verify`` measures: against the oracles, and able to fail."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gaitprop import RULES, ArgumentError, InvertibleNetwork, LayerGradient
from gaitprop.layers import Architecture, Convolution
from gaitprop.theorem import verification
from gaitprop.theorem.comparison import (
    Problem,
    backpropagation,
    crossings,
    orthogonal_problem,
    relative_differences,
)
from gaitprop.theorem.degradation import depart
from gaitprop.theorem.verification import (
    CONVOLUTIONS,
    Verification,
    compare,
    rescale,
    square,
    tolerance,
)
from tests.gaitprop.oracles import (
    RULE_NAMES,
    Case,
    autograd_gradients,
    literal,
    random_case,
    relative,
)

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
    problem = problem_of(case)
    for each in (problem, problem._replace(network=case.network())):  # Also without seeds.
        assert np.array_equal(crossings(each, rule, 0.6).numpy(), expected)


def test_bp_and_linear_networks_push_no_unit() -> None:
    assert not crossings(problem_of(random_case((8, 8, 8), 0.5)), "bp", 0.5).any()
    assert not crossings(problem_of(random_case((8, 8, 8), 1.0)), "tp", 0.5).any()


@pytest.mark.parametrize("rule", ["damped", "kolen_pollack"])
def test_of_rules_without_such_targets_no_crossings_are_counted(rule: str) -> None:
    with pytest.raises(ArgumentError, match=f"rule is '{rule}'; allowed: bp, gait, itp, tp"):
        crossings(problem_of(random_case((8, 8, 8), 0.5)), rule, 0.5)


def test_relative_differences_by_hand() -> None:
    def layer(weight: list[float], bias: float) -> LayerGradient:
        return LayerGradient(torch.tensor([weight]), torch.tensor([bias]))

    ours = [layer([3.0, 4.0], 1.0), layer([1.0, 0.0], 3.0), layer([math.nan, 0.0], 1.0)]
    theirs = [layer([3.0, 0.0], 1.0), layer([1.0, 0.0], 2.0), layer([1.0, 0.0], 1.0)]
    assert relative_differences(ours, theirs) == [pytest.approx(4 / 3), 0.5, math.inf]
    nothing = [layer([0.0, 0.0], 0.0)]
    assert relative_differences(nothing, nothing) == [0.0]


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
        rows = compare(widths, activation, RULE_NAMES, 1e-2, (0, 1), batch=20)
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


NETWORKS = {f"{depth} x 32": square(depth) for depth in (1, 4, 16)} | CONVOLUTIONS


@pytest.mark.parametrize("name", NETWORKS)
def test_thirty_times_the_error_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each inverted layer's share of such an error is enough for the verdict to be no."""
    sound, layers = RULES["gait"], NETWORKS[name]
    inverted = len(layers.layers if isinstance(layers, Architecture) else layers[1:]) - 1
    rows = compare(layers, "leaky_relu", ("gait",), 1e-3, (0, 1, 2))
    assert [row.holds for row in rows] == [True, True]
    for place, row in enumerate(rows):
        share = 30 * row.stable / inverted
        monkeypatch.setitem(RULES, "gait", lambda *view, share=share: (1 + share) * sound(*view))
        found = compare(layers, "leaky_relu", ("gait",), 1e-3, (0, 1, 2))[place]
        assert 10 * row.stable < found.stable < 100 * row.stable
        assert found.holds is False
        assert not Verification([], [], [], {name: [found]}).holds


def test_thirty_times_the_error_fails_of_the_follow_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rescale(4, (0, 1, 2))
    assert [row.holds for row in rows] == [True] * 3
    assert Verification([], [], [], {}, rows).holds
    sound, share = verification.rescaled_gradients, 30 * rows[0].rescaled

    def off(*problem: Any, length: float) -> list[LayerGradient]:
        found = sound(*problem, length=length)
        return [LayerGradient(*((1 + share) * each for each in layer)) for layer in found]

    monkeypatch.setattr(verification, "rescaled_gradients", off)
    changed = rescale(4, (0, 1, 2))
    # There is no promise of float32.
    assert [row.holds for row in changed] == [False, True, True]
    assert not Verification([], [], [], {}, changed).holds


def test_the_tolerance_by_hand() -> None:
    """Layers 2 and 3 are inverted: 3² + 4² = 5² rows; BP inverts none."""
    network = InvertibleNetwork((9, 3, 3, 3), dtype=torch.float64)
    network.weights[2] = torch.zeros(4, 4, dtype=torch.float64)
    assert tolerance(network, "gait") == pytest.approx(2**-52 * (12 * 3**0.5 + 1.5 * 5))
    assert tolerance(network, "bp") == pytest.approx(2**-52 * 12 * 3**0.5)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_theorem_holds_for_convolutions(name: str) -> None:
    rows = compare(CONVOLUTIONS[name], "leaky_relu", ("gait",), 1e-3, (0, 1))
    for row in rows:
        assert row.holds
        assert row.samples - row.left_out > 60
    assert Verification([], [], [], {name: rows}).holds


def test_a_convolution_that_fails_fails_the_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = RULES["gait"]
    monkeypatch.setitem(RULES, "gait", lambda *view: 1.01 * sound(*view))
    name, architecture = next(iter(CONVOLUTIONS.items()))
    rows = compare(architecture, "leaky_relu", ("gait",), 1e-3, (0,))
    assert not Verification([], [], [], {name: rows}).holds


def test_convolutions_crossings_are_counted_by_sample() -> None:
    """Each sample alone gives its own count, and the target's own definition the same."""
    architecture = CONVOLUTIONS["3 x 3, overlapping, then dense"]
    problem = orthogonal_problem(architecture, "leaky_relu", 0, 40)
    counts = crossings(problem, "gait", 0.9)
    assert int(counts.sum()) > 0
    assert (counts == 0).any()
    for sample in range(40):
        keep = torch.arange(40) == sample
        assert int(crossings(problem.only(keep), "gait", 0.9)) == int(counts[sample])


def test_convolutions_cross_at_every_position() -> None:
    """A last layer of convolutions, whose targets are the errors' own."""
    architecture = Architecture((1, 6, 6), (Convolution(1, 2), Convolution(2, 2)))
    problem = orthogonal_problem(architecture, "leaky_relu", 1, 50)
    outputs = problem.network(problem.inputs)[0]
    error = outputs.clone()
    error[:, problem.n_classes :] = 0.0
    error[torch.arange(50), problem.labels] -= 1.0
    target = outputs - 0.9 * torch.where(outputs > 0, 1.0, 0.1).to(outputs) ** 2 * error
    expected = ((outputs > 0) != (target > 0)).sum(-1)
    assert int(expected.max()) > 0
    assert torch.equal(crossings(problem, "gait", 0.9), expected)


@pytest.mark.parametrize("depth", [1, 4, 16])
def test_the_follow_ups_evaluation_needs_float64(depth: int) -> None:
    """Its steps keep half of float64's digits at any depth, and next to nothing of float32's."""
    double, single, longer = rescale(depth, (0, 1))
    assert [row.precision for row in (double, single, longer)] == ["float64", "float32", "float32"]
    assert double.length == single.length == 1e-7
    assert 1e-10 < double.rescaled < 1e-6
    assert double.stable < 1e-13
    assert single.rescaled > 1.0
    assert single.stable < 1e-5 < longer.rescaled
    assert depth < 4 or double.literal > 1e-3
    assert depth < 16 or single.literal == math.inf
