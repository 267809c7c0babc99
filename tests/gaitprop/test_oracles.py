"""Every rule against slow, obvious computations: autograd, literal formulas, numbers by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gaitprop import InvertibleNetwork, layer_gradients
from tests.gaitprop.oracles import (
    DTYPES,
    RULE_NAMES,
    Array,
    Case,
    autograd_gradients,
    literal,
    random_case,
    relative,
)
from tests.gaitprop.rounding import assert_within, gradient_bounds, regularizer_bound

SHAPES = [(6, 6), (7, 7, 7, 7), (9, 9, 6, 6, 4), (8, 5), (12, 10, 3)]
U = {dtype: torch.finfo(dtype).eps / 2 for dtype in DTYPES}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("orthogonality", [0.0, 0.3])
@pytest.mark.parametrize("slope", [1.0, 0.1])
@pytest.mark.parametrize("widths", SHAPES)
def test_bp_is_autograd(
    widths: tuple[int, ...], slope: float, orthogonality: float, dtype: torch.dtype
) -> None:
    """Both computations are within the bound, so their difference is within two of them."""
    case = random_case(widths, slope, batch=5, n_classes=2).rounded(dtype)
    exact = literal(case, "tp", 1.0)  # for its activations
    trace = replace(exact, errors=_errors_by_chain_rule(case, exact.activations))
    bounds = gradient_bounds(case, trace, "bp", 0.0, U[dtype])
    received = case.gradients("bp", orthogonality=orthogonality, dtype=dtype)
    expected = autograd_gradients(case, orthogonality, dtype)
    for layer, (weight, bound) in enumerate(zip(case.weights, bounds, strict=True)):
        regularizer = regularizer_bound(weight, orthogonality, U[dtype])
        twice = (2 * (bound[0] + regularizer), 2 * bound[1])
        assert_within(received[layer], expected[layer], twice, f"layer {layer + 1}")
        assert np.linalg.norm(twice[0]) < 2e4 * U[dtype] * np.linalg.norm(expected[layer][0])


def _errors_by_chain_rule(case: Case, activations: list[Array]) -> list[Array]:
    """e_1…e_L, one sample and one unit at a time."""
    error = np.zeros_like(activations[-1])
    error[:, : case.n_classes] = activations[-1][:, : case.n_classes]
    error[np.arange(len(error)), case.labels] -= 1.0
    found = []
    for layer in range(case.depth, 0, -1):
        found.append(error)
        y, weight = activations[layer], case.weights[layer - 1]
        error = np.zeros_like(activations[layer - 1])
        for sample in range(len(y)):
            for below in range(weight.shape[1]):
                for unit in range(len(weight)):
                    derivative = 1.0 if y[sample, unit] > 0 else case.slope
                    local = derivative * found[-1][sample, unit]
                    error[sample, below] += local * weight[unit, below]
    return found[::-1]


@pytest.mark.parametrize("rule", ["gait", "itp", "tp"])
@pytest.mark.parametrize("slope", [1.0, 0.1, 0.6])
@pytest.mark.parametrize("widths", [(6, 6), (6, 6, 6), (6, 6, 6, 6), (9, 7, 5, 3)])
def test_literal_formula_in_float64(widths: tuple[int, ...], slope: float, rule: str) -> None:
    """Up to three layers, where the literal form's own rounding (γ^-2) leaves digits to compare."""
    for seed in range(3):
        case = random_case(widths, slope, seed=seed)
        trace = literal(case, rule, 1e-3)
        published = gradient_bounds(case, trace, rule, 1e-3, published=True)
        ours = gradient_bounds(case, trace, rule, 1e-3)
        received = case.gradients(rule, 1e-3)
        for layer in range(case.depth):
            theirs, own = published[layer], ours[layer]
            bound = (theirs[0] + own[0], theirs[1] + own[1])
            where = f"seed {seed} layer {layer + 1}"
            assert_within(received[layer], trace.gradients[layer], bound, where)
            assert np.linalg.norm(bound[0]) < 1e-2 * np.linalg.norm(trace.gradients[layer][0])


@pytest.mark.parametrize("slope", [1.0, 0.1])
def test_gamma_zero_is_the_exact_limit(slope: float) -> None:
    """e_{l-1} = W⁻¹(D∘e) for GAIT-prop, W⁻¹(e/D) for ITP, by explicit inverses."""
    case = random_case((8, 8, 6, 6), slope)
    activations = literal(case, "tp", 1.0).activations
    for rule, power in (("gait", 1), ("itp", -1)):
        error = np.zeros_like(activations[-1])
        error[:, : case.n_classes] = activations[-1][:, : case.n_classes]
        error[np.arange(len(error)), case.labels] -= 1.0
        received = case.gradients(rule, 0.0)
        for layer in range(case.depth, 0, -1):
            y, n = activations[layer], case.widths[layer]
            derivative = np.where(y > 0, 1.0, slope)
            expected = (derivative * error).T @ activations[layer - 1][:, :n] / len(y)
            assert relative(received[layer - 1][0], expected) < 1e-12
            below = (derivative**power * error) @ np.linalg.inv(case.weights[layer - 1]).T
            error = np.pad(below, ((0, 0), (0, activations[layer - 1].shape[1] - n)))


@pytest.mark.parametrize("rule", ["gait", "itp"])
def test_a_vanishing_gamma_reaches_the_limit(rule: str) -> None:
    """γ^k underflows: the very bits of γ = 0, at any depth."""
    case = random_case((5,) * 13, 0.1, "near")
    for limit, small in zip(case.gradients(rule, 0.0), case.gradients(rule, 1e-200), strict=True):
        assert np.array_equal(limit[0], small[0])
        assert np.array_equal(limit[1], small[1])


def test_gamma_one_itp_is_tp() -> None:
    case = random_case((7, 7, 5, 5), 0.1)
    for tp, itp in zip(case.gradients("tp", 0.25), case.gradients("itp", 1.0), strict=True):
        assert np.array_equal(tp[0], itp[0])
        assert np.array_equal(tp[1], itp[1])


def test_all_rules_share_the_output_layer() -> None:
    """No error has been carried yet: the last layer's gradient is BP's, bit by bit."""
    case = random_case((7, 7, 5, 5), 0.1)
    expected = case.gradients("bp")[-1]
    for rule in RULE_NAMES:
        received = case.gradients(rule, 0.3)[-1]
        assert np.array_equal(received[0], expected[0])
        assert np.array_equal(received[1], expected[1])


@pytest.mark.parametrize("rule", ["bp", "tp"])
def test_gamma_plays_no_part_in_bp_and_tp(rule: str) -> None:
    case = random_case((7, 7, 5, 5), 0.1)
    for one, other in zip(case.gradients(rule, 0.0), case.gradients(rule, 0.7), strict=True):
        assert np.array_equal(one[0], other[0])


def test_outputs_without_a_class_give_no_gradient() -> None:
    case = random_case((6, 6, 6), 0.1, n_classes=2)
    for rule in RULE_NAMES:
        weight, bias = case.gradients(rule)[-1]
        assert not weight[2:].any()
        assert not bias[2:].any()
        assert weight[:2].all()
        assert bias[:2].all()


def test_a_tower_by_hand() -> None:
    """Widths 3-3-2, slope 1/2, one class of two outputs, one sample; see the numbers below.

    h_1 = diag(2, 1, 4) (1, -2, 3) + (0, 0, -16) = (2, -2, -4)      y_1 = (2, -1, -2), D = (1, ½, ½)
    layer 2 reads (2, -1), the third unit is auxiliary:
    h_2 = [[1, 2], [0, 1]] (2, -1) + (-4, 3) = (-4, 2)              y_2 = (-2, 2), D = (½, 1)
    e_2 = (-2 - 1, 0) = (-3, 0), local (-1.5, 0);  W_2⁻¹ = [[1, -2], [0, 1]]
      BP    e_1 = W_2ᵀ(-1.5, 0) = (-1.5, -3, 0),  local (-1.5, -1.5, 0)
      GAIT  γ = 1/8: step D²e/8 stays below the kink: q = De = (-1.5, 0), e_1 = (-1.5, 0, 0)
      ITP   γ = 1/8: q = e/D = (-6, 0): e_1 = (-6, 0, 0)
      TP    t = (1, 2) crosses the kink: q = f⁻¹(-2) - f⁻¹(1) = -4 - 1: e_1 = (-5, 0, 0)
      ITP   γ = 1 is TP; GAIT γ = 1: y - D²e = -2 + ¾ stays below.
    """
    network = InvertibleNetwork.from_parameters(
        [torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 4]]), torch.tensor([[1.0, 2], [0, 1]])],
        [torch.tensor([0.0, 0, -16]), torch.tensor([-4.0, 3])],
        negative_slope=0.5,
    )
    inputs, labels = torch.tensor([[1.0, -2, 3]]), torch.tensor([0])
    activations = network.forward(inputs)
    assert activations[1].tolist() == [[2, -1, -2]]
    assert activations[2].tolist() == [[-2, 2]]
    for rule, gamma, local in (
        ("bp", 0.125, [-1.5, -1.5, 0]),
        ("gait", 0.125, [-1.5, 0, 0]),
        ("gait", 1.0, [-1.5, 0, 0]),
        ("itp", 0.125, [-6, 0, 0]),
        ("tp", 0.125, [-5, 0, 0]),
        ("itp", 1.0, [-5, 0, 0]),
    ):
        first, last = layer_gradients(network, inputs, labels, 1, rule, gamma)
        assert last.bias.tolist() == [-1.5, 0]
        assert last.weight.tolist() == [[-3, 1.5], [0, 0]]
        assert first.bias.tolist() == local, rule
        assert first.weight.tolist() == [[x * unit for x in (1, -2, 3)] for unit in local], rule


def test_the_batch_is_averaged() -> None:
    """The gradient of a batch is the mean of the gradients of its samples, regularizer once."""
    case = random_case((6, 6, 4), 0.1, batch=5)
    network, orthogonality = case.network(), 0.2
    inputs, labels = torch.tensor(case.inputs), torch.tensor(case.labels)
    for rule in RULE_NAMES:
        batch = layer_gradients(network, inputs, labels, 3, rule, 0.05, orthogonality)
        samples = [
            layer_gradients(network, inputs[[i]], labels[[i]], 3, rule, 0.05, orthogonality)
            for i in range(5)
        ]
        for layer, gradient in enumerate(batch):
            weight = sum(sample[layer].weight for sample in samples) / 5
            bias = sum(sample[layer].bias for sample in samples) / 5
            torch.testing.assert_close(gradient.weight, weight, rtol=1e-12, atol=1e-13)
            torch.testing.assert_close(gradient.bias, bias, rtol=1e-12, atol=1e-13)
