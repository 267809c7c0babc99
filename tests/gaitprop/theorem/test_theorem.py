"""The theorem: orthogonal weights make GAIT-prop's updates equal to backpropagation's.

Exactly so up to units that the target pushes across the kink: these are counted, and left out.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from gaitprop import RULES, InvertibleNetwork, layer_gradients
from gaitprop.gradients import LayerGradient
from gaitprop.losses import squared_error
from gaitprop.rules.layer import LayerView
from tests.gaitprop.oracles import RULE_NAMES, random_case

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-3}
TOWER = (60, 60, 40, 40, 20, 10)
PAPER = (784, 784, 784, 784, 784, 784)
# Widths, slope, γ: from 1 to 64 hidden layers; a slope of 1 is the linear network.
SETTINGS = [
    ((2, 2, 2), 0.1, 1e-3),
    ((3, 3, 3), 0.1, 1e-2),
    ((10, 10, 10), 0.1, 0.0),
    ((30,) * 4, 0.1, 1e-2),
    ((30,) * 5, 0.5, 1e-3),
    ((64,) * 6, 0.1, 1e-3),
    ((64,) * 6, 1.0, 1e-2),
    ((40,) * 18, 0.1, 1e-3),
    ((40,) * 18, 1.0, 1e-3),
    ((24,) * 66, 0.1, 0.0),
    ((24,) * 66, 0.1, 1e-2),
    ((24,) * 66, 0.9, 1e-3),
    (TOWER, 0.1, 1e-3),
    (TOWER, 0.1, 1e-2),
    (TOWER, 1.0, 1e-3),
    ((50, *range(50, 10, -1)), 0.1, 1e-3),
    ((784, 784, 500, 200, 10), 0.1, 1e-3),
    (PAPER, 0.1, 1e-3),
]


def orthogonal_network(
    widths: tuple[int, ...], slope: float, dtype: torch.dtype = torch.float64
) -> InvertibleNetwork:
    """The library's own initialisation; biases keep the activations' size at any depth."""
    activation = "linear" if slope == 1.0 else "leaky_relu"
    network = InvertibleNetwork(widths, activation, slope, dtype=dtype, seeds=(5,))
    source = torch.Generator().manual_seed(2)
    for bias in network.biases:
        drawn = torch.randn(bias.shape, dtype=torch.float64, generator=source)
        bias.copy_(0.5 * drawn)
    return network


def batch_for(widths: tuple[int, ...], samples: int = 24) -> tuple[Tensor, Tensor, int]:
    source = torch.Generator().manual_seed(7)
    classes = min(10, widths[-1])
    inputs = torch.randn(samples, widths[0], dtype=torch.float64, generator=source)
    return inputs, torch.randint(classes, (samples,), generator=source), classes


def crossings(
    network: InvertibleNetwork, inputs: Tensor, labels: Tensor, classes: int, gamma: float
) -> list[Tensor]:
    """For layers L…2, the units whose target y − γ^k D²e is on the other side, e by the rule."""
    activations = network.forward(inputs)
    error = squared_error(activations[-1], labels.expand(1, -1), classes)
    found = []
    for k, layer in enumerate(range(network.depth, 1, -1), start=1):
        y = activations[layer]
        derivative = torch.where(y > 0, 1.0, network.activation.slope)
        found.append((y > 0) != (y - gamma**k * derivative**2 * error > 0))
        weight, f = network.weights[layer - 1], network.activation
        view = LayerView(weight, y, derivative * error, f, layer, network.seeds)
        error = RULES["gait"](view, error, gamma**k)
        missing = network.widths[layer - 1] - network.widths[layer]
        error = torch.nn.functional.pad(error, (0, missing))
    return found


def relative_difference(left: LayerGradient, right: LayerGradient) -> float:
    """The worse of weights and biases, in Frobenius norm."""
    return max(
        float((a.double() - b.double()).norm() / b.double().norm())
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("widths", "slope", "gamma"), SETTINGS)
def test_gait_prop_is_backpropagation(
    widths: tuple[int, ...], slope: float, gamma: float, dtype: torch.dtype
) -> None:
    """Every layer, on the samples of which no unit is pushed across the kink."""
    network = orthogonal_network(widths, slope, dtype)
    inputs, labels, classes = batch_for(widths)
    inputs = inputs.to(dtype)
    if slope < 1.0 and gamma > 0.0:
        masks = crossings(network, inputs, labels, classes, gamma)
        keep = ~torch.stack([mask.any(-1)[0] for mask in masks]).any(0)
        assert keep.sum() >= 10, "too few samples without a crossing to say anything"
        inputs, labels = inputs[keep], labels[keep]
    expected = layer_gradients(network, inputs, labels, classes, "bp")
    received = layer_gradients(network, inputs, labels, classes, "gait", gamma)
    for layer, (left, right) in enumerate(zip(received, expected, strict=True), start=1):
        assert relative_difference(left, right) < TOLERANCE[dtype], f"layer {layer}"


def test_a_small_enough_gamma_pushes_no_unit() -> None:
    """The whole batch, nothing left out, at γ = 1e-9."""
    network = orthogonal_network((30,) * 6, 0.1)
    inputs, labels, classes = batch_for((30,), 200)
    assert not any(mask.any() for mask in crossings(network, inputs, labels, classes, 1e-9))
    expected = layer_gradients(network, inputs, labels, classes, "bp")
    received = layer_gradients(network, inputs, labels, classes, "gait", 1e-9)
    assert max(map(relative_difference, received, expected)) < 1e-11


def test_the_difference_comes_from_units_across_the_kink_alone() -> None:
    """Per sample: BP's gradient where no unit crosses, another where one does."""
    network = orthogonal_network((12, 12, 12), 0.5)
    inputs, labels, classes = batch_for((12,), 120)
    crossed = crossings(network, inputs, labels, classes, 0.8)[0][0].any(-1)
    assert 10 < int(crossed.sum()) < 110
    for sample in range(120):
        one = (inputs[[sample]], labels[[sample]], classes)
        expected = layer_gradients(network, *one, "bp")
        received = layer_gradients(network, *one, "gait", 0.8)
        difference = relative_difference(received[0], expected[0])
        assert difference > 1e-6 if crossed[sample] else difference < 1e-12


def test_the_difference_is_on_exactly_the_units_that_cross() -> None:
    """W(e_gait − e_bp) of one layer is 0 on every unit but those."""
    network = orthogonal_network((12, 12), 0.5)
    inputs, labels, classes = batch_for((12,), 200)
    y = network.forward(inputs)[-1]
    error = squared_error(y, labels.expand(1, -1), classes)
    derivative = torch.where(y > 0, 1.0, 0.5)
    view = LayerView(network.weights[0], y, derivative * error, network.activation, 1, (0,))
    difference = RULES["gait"](view, error, 0.8) - RULES["bp"](view, error, 0.8)
    crossed = (y > 0) != (y - 0.8 * derivative**2 * error > 0)
    assert crossed.any()
    assert torch.equal((difference @ network.weights[0].mT).abs() > 1e-10, crossed)


@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (9, 9, 7, 5)])
@pytest.mark.parametrize("slope", [0.1, 1.0])
def test_other_weights_give_other_updates(widths: tuple[int, ...], slope: float) -> None:
    """The theorem's condition is needed: Gaussian weights, columns of length 2."""
    for scaled in (False, True):
        network = orthogonal_network(widths, slope)
        if scaled:
            network.weights = [2.0 * weight for weight in network.weights]
        else:
            network.weights = InvertibleNetwork(
                widths, orthogonal=False, dtype=torch.float64
            ).weights
        inputs, labels, classes = batch_for(widths)
        expected = layer_gradients(network, inputs, labels, classes, "bp")
        received = layer_gradients(network, inputs, labels, classes, "gait", 0.0)
        assert relative_difference(received[-1], expected[-1]) == 0.0
        for left, right in zip(received[:-1], expected[:-1], strict=True):
            assert relative_difference(left, right) > 0.1


@pytest.mark.parametrize("slope", [0.1, 1.0])
@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (9, 9, 7, 5)])
def test_first_order_in_the_orthogonality_defect(widths: tuple[int, ...], slope: float) -> None:
    """W = Q(I + εS): (dW_gait − dW_bp)/ε tends to the derivative, with an error of order ε.

    W⁻¹ = (I − εS)Qᵀ and Wᵀ = (I + εSᵀ)Qᵀ to first order, so with e = e_bp at ε = 0
        δ_{l-1} = Qᵀ D δ_l − (S + Sᵀ) Qᵀ D e_l,  δ_L = 0, and the derivative of dW is D δ_l yᵀ.
    """
    case = random_case(widths, slope, "orthogonal", seed=1, batch=6)
    draw = np.random.default_rng(0)
    noise = [draw.standard_normal(weight.shape) / len(weight) ** 0.5 for weight in case.weights]
    rotations = [weight.copy() for weight in case.weights]

    activations = [y.numpy() for y in case.network().forward(torch.tensor(case.inputs))]
    error = np.zeros_like(activations[-1])
    error[:, : case.n_classes] = activations[-1][:, : case.n_classes]
    error[np.arange(len(error)), case.labels] -= 1.0
    change = np.zeros_like(error)
    predicted = []
    for layer in range(case.depth, 0, -1):
        y, rotation, s = activations[layer], rotations[layer - 1], noise[layer - 1]
        derivative, n = np.where(y > 0, 1.0, slope), len(rotation)
        predicted.append((derivative * change).T @ activations[layer - 1][:, :n] / len(y))
        below = (derivative * error) @ rotation
        change = (derivative * change) @ rotation - below @ (s + s.T)
        unread = ((0, 0), (0, activations[layer - 1].shape[1] - n))
        error, change = np.pad(below, unread), np.pad(change, unread)
    predicted = predicted[::-1]

    remainders = []
    for epsilon in (1e-3, 1e-4, 1e-5):
        case.weights[:] = [
            rotation @ (np.eye(len(s)) + epsilon * s)
            for rotation, s in zip(rotations, noise, strict=True)
        ]
        bp, gait = case.gradients("bp"), case.gradients("gait", 0.0)
        remainders.append(
            [
                np.linalg.norm((ours[0] - theirs[0]) / epsilon - slope_) / np.linalg.norm(slope_)
                for ours, theirs, slope_ in zip(gait[:-1], bp[:-1], predicted[:-1], strict=True)
            ]
        )
    assert max(remainders[0]) < 0.05
    for larger, smaller in pairwise(remainders):
        for before, after in zip(larger, smaller, strict=True):
            assert after == pytest.approx(before / 10, rel=0.1)


@pytest.mark.parametrize("rule", ["itp", "tp"])
@pytest.mark.parametrize("widths", [(20,) * 5, (20, 20, 14, 10, 6)])
def test_itp_and_tp_are_not_backpropagation_in_leaky_networks(
    widths: tuple[int, ...], rule: str
) -> None:
    """They divide by the derivative where backpropagation multiplies."""
    network = orthogonal_network(widths, 0.1)
    inputs, labels, classes = batch_for(widths)
    expected = layer_gradients(network, inputs, labels, classes, "bp")
    received = layer_gradients(network, inputs, labels, classes, rule, 1e-3)
    for left, right in zip(received[:-1], expected[:-1], strict=True):
        assert relative_difference(left, right) > 0.1


@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("widths", [(20,) * 12, (20, 20, 14, 10, 6)])
def test_all_rules_are_backpropagation_in_linear_networks(
    widths: tuple[int, ...], rule: str
) -> None:
    network = orthogonal_network(widths, 1.0)
    inputs, labels, classes = batch_for(widths)
    expected = layer_gradients(network, inputs, labels, classes, "bp")
    received = layer_gradients(network, inputs, labels, classes, rule, 0.2)
    assert max(map(relative_difference, received, expected)) < 1e-11
