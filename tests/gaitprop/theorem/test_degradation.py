"""How GAIT-prop leaves BP with orthogonality: the bound is one, the forecast is of first order."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gaitprop import ArgumentError, InvertibleNetwork, layer_gradients
from gaitprop.theorem.comparison import Problem, backpropagation, crossings, orthogonal_problem
from gaitprop.theorem.degradation import degradation, depart, inverse_defect
from gaitprop.training import TrainingSettings, make_optimizer
from tests.gaitprop import plain
from tests.gaitprop.oracles import Array, Case, random_case
from tests.gaitprop.plain import ARCHITECTURES, Batch

SHAPES = [(8, 8, 8, 8), (9, 9, 7, 5), (24,) * 10]


def nearly_orthogonal(widths: tuple[int, ...], slope: float, norm: float, seed: int = 0) -> Case:
    """‖WᵀW − I‖₂ is exactly ``norm`` in every layer: W = Q(I + norm·S)^½, ‖S‖₂ = 1, S symmetric."""
    case = random_case(widths, slope, "orthogonal", seed, batch=6)
    source = np.random.default_rng(seed)
    for layer, rotation in enumerate(case.weights):
        n = len(rotation)
        axes, _ = np.linalg.qr(source.standard_normal((n, n)))
        spread = source.uniform(-1, 1, n)
        spread /= np.abs(spread).max()
        case.weights[layer] = rotation @ (axes * np.sqrt(1 + norm * spread)) @ axes.T
    return case


@pytest.mark.parametrize(
    ("labels", "n_classes", "said"),
    [
        (torch.tensor([0, 3]), 3, "labels reach from 0 to 3; allowed: 0 to 2"),
        (torch.tensor([0, 1]), 4, "n_classes is 4 and the last layer has 3 outputs; allowed: .*"),
        (torch.tensor([0, 1, 2]), 3, r"labels are .* \(3,\); allowed: .*"),
        (torch.eye(2, 3).double(), 3, "labels are soft targets; allowed: integers, as published"),
    ],
)
def test_labels_that_no_output_has_are_refused(labels: Tensor, n_classes: int, said: str) -> None:
    """In the bound and forecast, in autograd's gradients and in the count of crossings."""
    network = InvertibleNetwork([3, 3, 3], seeds=(0,), dtype=torch.float64)
    problem = Problem(network, torch.ones(2, 3, dtype=torch.float64), labels, n_classes)
    for compute in (
        lambda: degradation(*problem),
        lambda: backpropagation(problem),
        lambda: crossings(problem, "gait", 0.5),
    ):
        with pytest.raises(ArgumentError, match=rf"^{said}$"):
            compute()


def measured(case: Case) -> Array:
    pairs = zip(case.gradients("gait", 0.0), case.gradients("bp"), strict=True)
    return np.array([np.linalg.norm(g[0] - b[0]) / np.linalg.norm(b[0]) for g, b in pairs])


def theory(case: Case) -> tuple[Array, Array]:
    """Bound and forecast of every layer."""
    network = case.network()
    network.weights = [weight[None] for weight in network.weights]
    network.biases = [bias[None] for bias in network.biases]
    batch = torch.tensor(case.inputs), torch.tensor(case.labels), case.n_classes
    found = degradation(network, *batch)
    return found.bound[0].numpy(), found.first_order[0].numpy()


@pytest.mark.parametrize("slope", [0.1, 1.0])
@pytest.mark.parametrize("widths", SHAPES)
def test_the_forecast_is_right_to_second_order(widths: tuple[int, ...], slope: float) -> None:
    """measured = first order + O(‖E‖²): the remainder falls by 100 where ‖E‖ falls by 10."""
    remainders = []
    for norm in (1e-2, 1e-3, 1e-4):
        case = nearly_orthogonal(widths, slope, norm)
        found, (_, forecast) = measured(case), theory(case)
        assert found[-1] == forecast[-1] == 0.0
        np.testing.assert_allclose(found[:-1], forecast[:-1], rtol=5 * norm * len(widths))
        remainders.append(np.abs(found - forecast)[:-1].max())
    for larger, smaller in pairwise(remainders):
        assert smaller < larger / 50


@pytest.mark.parametrize("slope", [0.1, 1.0])
@pytest.mark.parametrize("widths", SHAPES)
def test_the_bound_is_one_and_means_something(widths: tuple[int, ...], slope: float) -> None:
    for norm in (1e-6, 1e-3, 0.1, 0.5):
        case = nearly_orthogonal(widths, slope, norm)
        found, (bound, _) = measured(case), theory(case)
        assert (found <= bound + 1e-13).all()
        assert bound[-1] == 0.0
    small, _ = theory(nearly_orthogonal(widths, slope, 1e-6))
    smaller, _ = theory(nearly_orthogonal(widths, slope, 1e-7))
    np.testing.assert_allclose(small[:-1] / smaller[:-1], 10, rtol=1e-3)
    assert (small[:-1] < 300 * measured(nearly_orthogonal(widths, slope, 1e-6))[:-1]).all()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(st.integers(2, 12), min_size=3, max_size=7).map(lambda w: tuple(sorted(w)[::-1])),
    st.sampled_from([0.05, 0.1, 0.5, 1.0]),
    st.floats(-7, -0.02).map(lambda exponent: 10**exponent),
    st.integers(0, 10**6),
)
def test_the_bound_holds_for_any_network(
    widths: tuple[int, ...], slope: float, norm: float, seed: int
) -> None:
    case = nearly_orthogonal(widths, slope, norm, seed)
    bound, _ = theory(case)
    assert (measured(case) <= bound + 1e-12 * (1 + bound)).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_convolutions_leave_as_the_theory_says(name: str) -> None:
    """The bound with what overlapping patches add up, and the forecast to second order."""
    batch = plain.a_batch(ARCHITECTURES[name])
    remainders = []
    for bend in (1e-3, 1e-4, 1e-5):
        network = plain.a_network(ARCHITECTURES[name], bend=bend)
        found = degradation(network, *batch)
        pairs = zip(
            layer_gradients(network, *batch, rule="gait", gamma=0.0),
            layer_gradients(network, *batch, rule="bp"),
            strict=True,
        )
        measured = torch.stack([(g.weight - b.weight).norm() / b.weight.norm() for g, b in pairs])
        assert (measured <= found.bound[0] + 1e-13).all()
        assert measured[0] > bend / 10
        remainders.append(float((measured - found.first_order[0]).abs().max()))
    for larger, smaller in pairwise(remainders):
        assert smaller < larger / 50


def learned(name: str, bend: float, miss: float) -> tuple[InvertibleNetwork, list[Tensor]]:
    """``bend`` away from orthogonal, with inverses that ``miss``."""
    network = plain.a_network(ARCHITECTURES[name], bend=bend)
    return network, with_inverses(network, miss)


def with_inverses(network: InvertibleNetwork, miss: float) -> list[Tensor]:
    """The network keeps inverses V = (I + Δ) W⁻¹, ‖Δ‖₂ = ``miss``, from now on; these."""
    make_optimizer(network, TrainingSettings("gait_learned_inverse"))
    assert network.feedback is not None
    inverses, source = [], torch.Generator().manual_seed(1)
    for layer, weight in zip(network.feedback.layers[1:], network.weights[1:], strict=True):
        noise = torch.randn(weight.shape, dtype=weight.dtype, generator=source)
        missed = miss * noise / torch.linalg.matrix_norm(noise, 2)
        layer["inverse"].copy_((torch.eye(weight.shape[-1]) + missed) @ torch.linalg.inv(weight))
        inverses.append(layer["inverse"])
        defect = torch.linalg.matrix_norm(inverse_defect(layer["inverse"], weight), 2)
        assert abs(float(defect) - miss) < 1e-12
    return inverses


def away(network: InvertibleNetwork, batch: Batch) -> Tensor:
    """How far learned inverses' gradients are from BP's, layer by layer."""
    pairs = zip(
        layer_gradients(network, *batch, rule="gait_learned_inverse", gamma=0.0),
        layer_gradients(network, *batch, rule="bp"),
        strict=True,
    )
    return torch.stack([(g.weight - b.weight).norm() / b.weight.norm() for g, b in pairs])


@pytest.mark.parametrize("bend", [0.0, 1e-2])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_learned_inverses_leave_as_the_theory_says(name: str, bend: float) -> None:
    """ε + δ in the place of ε: a bound for any δ, and a forecast to second order."""
    batch = plain.a_batch(ARCHITECTURES[name])
    remainders = []
    for size in (1e-1, 1e-2, 1e-3):
        network, inverses = learned(name, size * bend, 3e-2 * size)
        found = degradation(network, *batch, inverses=inverses)
        measured = away(network, batch)
        assert (measured <= found.bound[0] + 1e-13).all()
        assert (measured[:-1] > 3e-2 * size / 30).all()
        remainders.append(float((measured - found.first_order[0]).abs().max()))
    for larger, smaller in pairwise(remainders):
        assert smaller < larger / 50 + 1e-13
    # Beyond what any forecast is good for.
    network, inverses = learned(name, 0.0, 2.0)
    bound = degradation(network, *batch, inverses=inverses).bound[0]
    assert (away(network, batch) <= bound + 1e-13).all()


def test_the_pages_table_of_learned_inverses() -> None:
    page = (Path(__file__).parents[3] / "docs/theory_deviations.md").read_text()
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| (.+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for norm, miss, *stated in rows:
        found = []
        for seed in range(3):
            problem = orthogonal_problem((32,) * 6, "leaky_relu", seed)
            source = torch.Generator().manual_seed(seed)
            for weight in problem.network.weights:
                square = torch.randn(32, 32, dtype=torch.float64, generator=source)
                spread, axes = torch.linalg.eigh(square + square.mT)
                stretch = (1 + float(norm) * spread / spread.abs().max()).sqrt()
                weight.copy_(weight @ (axes * stretch) @ axes.mT)
            inverses = with_inverses(problem.network, float(miss))
            theory = degradation(*problem, inverses=inverses)
            pairs = zip(
                layer_gradients(*problem, rule="gait_learned_inverse", gamma=0.0),
                backpropagation(problem),
                strict=True,
            )
            distances = [(g.weight - b.weight).norm() / b.weight.norm() for g, b in pairs]
            found.append([max(distances), theory.first_order.max(), theory.bound.max()])
        assert [f"{max(map(float, each)):#.2g}" for each in zip(*found, strict=True)] == stated


def test_exact_inverses_add_nothing() -> None:
    network, inverses = learned("narrow", 1e-2, 0.0)
    batch = plain.a_batch(ARCHITECTURES["narrow"])
    ours, exact = degradation(network, *batch, inverses=inverses), degradation(network, *batch)
    for received, expected in zip(ours, exact, strict=True):
        assert torch.allclose(received, expected, rtol=1e-10, atol=1e-14)


def test_no_bound_where_a_defect_reaches_one() -> None:
    """Layer 3's defect leaves layers 1 and 2 without a bound, and the output layer with one."""
    case = nearly_orthogonal((8, 8, 8, 8), 0.1, 0.1)
    case.weights[2] *= 2.0
    bound, _ = theory(case)
    assert bound.tolist() == [np.inf, np.inf, 0.0]


def test_orthogonal_weights_have_nothing_to_bound() -> None:
    bound, forecast = theory(random_case((24,) * 10, 0.1, "orthogonal"))
    assert bound.max() < 1e-11
    assert forecast.max() < 1e-12


def test_departures_are_measured_beside_the_theory() -> None:
    """Twice the distance, twice the difference; and a layer off its bound is told."""
    one, two = (depart((16,) * 4, norm, (0, 1)) for norm in (1e-4, 2e-4))
    assert one.holds
    assert two.holds
    assert one.norm == pytest.approx(1e-4, rel=1e-3)
    assert one.defect < one.norm
    assert two.measured == pytest.approx(2 * one.measured, rel=1e-2)
    assert one.first_order == pytest.approx(one.measured, rel=1e-2)
    assert one.measured < one.bound
