"""Properties that hold for any shape, depth, slope, batch and conditioning (hypothesis)."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaitprop.linalg import solve_rows
from tests.gaitprop.oracles import Case, literal, random_case
from tests.gaitprop.rounding import assert_within, gradient_bounds

U = np.finfo(float).eps / 2
few = settings(deadline=None, derandomize=True, max_examples=40)


@st.composite
def cases(draw: st.DrawFn, linear: bool = False) -> Case:
    """Towers and squares of up to 5 layers, with weights of a condition number of up to 1e5."""
    depth = draw(st.integers(1, 5))
    widths = sorted(draw(st.lists(st.integers(1, 7), min_size=depth + 1, max_size=depth + 1)))[::-1]
    slope = 1.0 if linear else draw(st.sampled_from([0.01, 0.1, 0.5, 0.99, 1.0]))
    seed, batch = draw(st.integers(0, 10**6)), draw(st.integers(1, 6))
    n_classes = draw(st.integers(1, widths[-1]))
    case = random_case(widths, slope, "orthogonal", seed, batch, n_classes)
    condition = 10.0 ** draw(st.sampled_from([0, 1, 3, 5]))
    source = np.random.default_rng(seed)
    for layer, rotation in enumerate(case.weights):
        n = len(rotation)
        other, _ = np.linalg.qr(source.standard_normal((n, n)))
        case.weights[layer] = rotation * np.geomspace(1, 1 / condition, n) @ other
    return case


gammas = st.sampled_from([1e-6, 1e-3, 0.05, 0.4, 1.0])


@few
@given(cases(), gammas, st.sampled_from(["gait", "itp", "tp"]))
def test_within_rounding_of_exact_arithmetic(case: Case, gamma: float, rule: str) -> None:
    """The bound grows with the condition number, κ(W)·u a layer, and with nothing like γ^-k."""
    trace = literal(case, rule, gamma, digits=100)
    bounds = gradient_bounds(case, trace, rule, gamma)
    for layer, received in enumerate(case.gradients(rule, gamma)):
        assert_within(received, trace.gradients[layer], bounds[layer], f"layer {layer + 1}")


@few
@given(cases(linear=True), gammas)
def test_linear_networks_do_not_know_gamma(case: Case, gamma: float) -> None:
    """Without a kink ITP, TP and GAIT-prop are one rule at every γ, bit by bit."""
    expected = case.gradients("gait", 0.0)
    for rule in ("gait", "itp", "tp"):
        for left, right in zip(case.gradients(rule, gamma), expected, strict=True):
            assert np.array_equal(left[0], right[0])
            assert np.array_equal(left[1], right[1])


@few
@given(cases(), gammas, st.sampled_from(["gait", "itp", "tp"]), st.randoms(use_true_random=False))
def test_the_order_of_the_batch_does_not_matter(
    case: Case, gamma: float, rule: str, random: Random
) -> None:
    order = list(range(len(case.inputs)))
    random.shuffle(order)
    shuffled = replace(case, inputs=case.inputs[order], labels=case.labels[order])
    bounds = gradient_bounds(case, literal(case, rule, gamma, digits=100), rule, gamma)
    pairs = zip(shuffled.gradients(rule, gamma), case.gradients(rule, gamma), strict=True)
    for (left, right), bound in zip(pairs, bounds, strict=True):
        assert (np.abs(left[0] - right[0]) <= 2 * bound[0]).all()
        assert (np.abs(left[1] - right[1]) <= 2 * bound[1]).all()


@few
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 10**6), st.integers(0, 12))
def test_a_solve_is_backward_stable(n: int, batch: int, seed: int, decades: int) -> None:
    """The residual ‖XWᵀ − R‖ is within 4n·u·‖W‖‖X‖ whatever κ(W) is, up to 1e12.

    R is made from an X of moderate size: there the inverse, formed and multiplied, gives κ times
    as much.
    """
    draw = np.random.default_rng(seed)
    left, right = (np.linalg.qr(draw.standard_normal((n, n)))[0] for _ in range(2))
    weight = left * np.geomspace(1, 10.0**-decades, n) @ right
    rows = draw.standard_normal((batch, n)) @ weight.T
    solution = solve_rows(torch.tensor(weight), torch.tensor(rows)).numpy()
    residual = np.linalg.norm(solution @ weight.T - rows)
    assert residual <= 4 * n * U * np.linalg.norm(solution) * np.linalg.norm(weight, 2)


@few
@given(cases())
def test_inverse_after_forward_gives_the_inputs_back(case: Case) -> None:
    """Within the error of the outputs and of each solve, carried through the inverses: to first
    order ‖δ_{l-1}‖ ≤ ‖W⁻¹‖(‖δ_l‖/slope + (n+3)u(‖W‖‖y_{l-1}‖ + ‖b‖)/slope) + 3n·u·κ·‖y_{l-1}‖.
    """
    network = case.network()
    activations = network.forward(torch.tensor(case.inputs))
    received = network.inverse(activations[-1], network.auxiliary_units(activations))
    bound = 0.0
    for layer in range(case.depth, 0, -1):
        weight, bias = case.weights[layer - 1], case.biases[layer - 1]
        n, size = len(bias), float(activations[layer - 1].norm())
        norm, inverse = np.linalg.norm(weight, 2), 1 / np.linalg.norm(weight, -2)
        magnitude = n**0.5 * norm * size + len(case.inputs) ** 0.5 * np.linalg.norm(bias)
        bound = inverse * (bound + (n + 3) * U * magnitude) / case.slope
        bound += 3 * n * U * norm * inverse * size
    assert float((received - activations[0]).norm()) <= bound
