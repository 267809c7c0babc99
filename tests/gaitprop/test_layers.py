"""Convolutions and rectangular first layers, against plain PyTorch; descriptions of layers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from gaitprop import (
    RULES,
    Architecture,
    ArgumentError,
    Convolution,
    Dense,
    InvertibleNetwork,
    layer_gradients,
)
from gaitprop.layers import Layer
from tests.gaitprop import plain
from tests.gaitprop.plain import ARCHITECTURES, CONVOLUTIONS, RECTANGLES, a_batch, a_network

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}


def assert_equal(received: list, expected: plain.Gradients, tolerance: float) -> None:
    """Every layer's weight and bias, relative to the layer's gradient; the first seed's."""
    each = zip(received, expected.weights, expected.biases, strict=True)
    for layer, (gradient, weight, bias) in enumerate(each, start=1):
        for ours, theirs in ((gradient.weight[0], weight), (gradient.bias[0], bias)):
            assert ours.shape == theirs.shape
            difference = float((ours - theirs).norm() / max(weight.norm(), bias.norm()))
            assert difference < tolerance, f"layer {layer}: {difference:.1e}"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_forward_is_pytorchs(name: str) -> None:
    """All units of all layers, flat as PyTorch flattens them."""
    network, batch = a_network(ARCHITECTURES[name]), a_batch(ARCHITECTURES[name])
    parameters = [w[0] for w in network.weights], [b[0] for b in network.biases]
    expected = plain.forward(network, *parameters, batch.inputs)
    received = network.forward(batch.inputs)
    assert network.widths == tuple(units.flatten(1).shape[1] for units in expected)
    for ours, theirs in zip(received, expected, strict=True):
        torch.testing.assert_close(ours[0], theirs.flatten(1), rtol=1e-12, atol=1e-13)
    assert torch.equal(network(batch.inputs), received[-1])


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bp_is_autograd(name: str, dtype: torch.dtype, loss: str) -> None:
    network = a_network(ARCHITECTURES[name], dtype=dtype, orthogonal=False)
    batch = a_batch(ARCHITECTURES[name], dtype=dtype)
    received = layer_gradients(network, *batch, rule="bp", loss=loss)
    assert_equal(received, plain.autograd(network, batch, loss), TOLERANCE[dtype])


@pytest.mark.parametrize("rule", ["gait", "itp", "tp"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rules_are_the_published_targets(name: str, rule: str) -> None:
    """At a γ that leaves the targets most of float64's digits; weights that are not orthogonal."""
    network = a_network(ARCHITECTURES[name], bend=0.05, slope=0.5)
    batch = a_batch(ARCHITECTURES[name])
    received = layer_gradients(network, *batch, rule=rule, gamma=0.05)
    assert_equal(received, plain.by_targets(network, batch, rule, 0.05), 1e-9)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gait_prop_is_backpropagation(name: str, dtype: torch.dtype) -> None:
    """With overlapping patches, unread channels, any first layer; γ = 0, nothing left out."""
    network = a_network(ARCHITECTURES[name], dtype=dtype)
    batch = a_batch(ARCHITECTURES[name], 20, dtype)
    received = layer_gradients(network, *batch, rule="gait", gamma=0.0)
    assert_equal(received, plain.autograd(network, batch), TOLERANCE[dtype])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_weights_give_other_updates(name: str) -> None:
    network = a_network(ARCHITECTURES[name], orthogonal=False)
    batch = a_batch(ARCHITECTURES[name])
    received = layer_gradients(network, *batch, rule="gait", gamma=0.0)
    expected = plain.autograd(network, batch)
    assert float((received[0].weight[0] - expected.weights[0]).norm()) > 0.05 * float(
        expected.weights[0].norm()
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_seeds_side_by_side(name: str, rule: str) -> None:
    seeds, architecture = (4, 0, 9), ARCHITECTURES[name]
    together = layer_gradients(a_network(architecture, seeds), *a_batch(architecture), rule, 0.1)
    whole = a_network(architecture, seeds)
    for index, seed in enumerate(seeds):
        alone = InvertibleNetwork.from_parameters(
            [w[[index]] for w in whole.weights],
            [b[[index]] for b in whole.biases],
            seeds=(seed,),
            architecture=architecture,
        )
        for ours, theirs in zip(
            together, layer_gradients(alone, *a_batch(architecture), rule, 0.1), strict=True
        ):
            torch.testing.assert_close(ours.weight[index], theirs.weight[0], rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(ours.bias[index], theirs.bias[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_a_seed_dimension(name: str, rule: str) -> None:
    seeded, batch = a_network(ARCHITECTURES[name]), a_batch(ARCHITECTURES[name])
    single = InvertibleNetwork.from_parameters(
        [w[0] for w in seeded.weights],
        [b[0] for b in seeded.biases],
        seeds=seeded.seeds,
        architecture=seeded.architecture,
    )
    pairs = zip(
        layer_gradients(single, *batch, rule), layer_gradients(seeded, *batch, rule), strict=True
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.weight, theirs.weight[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if name != "rectangular first"])
def test_back_to_the_inputs(name: str, seeds: tuple[int, ...]) -> None:
    """Units that no position reads are auxiliary: other channels, and what a stride leaves out."""
    architecture = CONVOLUTIONS[name]
    if name == "dense below":
        architecture = Architecture((30,), architecture.layers, auxiliary_inputs=True)
    network, batch = a_network(architecture, seeds), a_batch(architecture)
    activations = network.forward(batch.inputs)
    auxiliary = network.auxiliary_units(activations)
    received = network.inverse(activations[-1], auxiliary)
    torch.testing.assert_close(received, activations[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rectangular first", *RECTANGLES])
def test_a_rectangular_layer_has_no_inverse(name: str) -> None:
    network = a_network(ARCHITECTURES[name])
    activations = network.forward(a_batch(ARCHITECTURES[name]).inputs)
    with pytest.raises(ArgumentError, match=r"layer 1 has a weight of \d+ x \d+; .* square"):
        network.inverse(activations[-1], network.auxiliary_units(activations))


@pytest.mark.parametrize("name", ["rectangular first", *RECTANGLES])
def test_a_rectangular_layer_is_drawn_orthonormal(name: str) -> None:
    network = InvertibleNetwork(ARCHITECTURES[name], seeds=(0, 1), dtype=torch.float64)
    weight = network.weights[0]
    product = weight @ weight.mT if weight.shape[-2] < weight.shape[-1] else weight.mT @ weight
    assert float((product - torch.eye(product.shape[-1])).abs().max()) < 1e-14
    assert weight.is_contiguous()
    assert not torch.equal(weight[0], weight[1])
    again = InvertibleNetwork(ARCHITECTURES[name], seeds=(1,), dtype=torch.float64)
    assert torch.equal(again.weights[0][0], weight[1])


def test_a_gaussian_rectangle_has_variance_one_over_its_inputs() -> None:
    weight = InvertibleNetwork((400, 50, 10), orthogonal=False, seeds=range(4)).weights[0]
    assert weight.shape == (4, 50, 400)
    # Over 80,000 entries the variance's relative standard error is √(2/80000) = 0.005.
    assert float(weight.var()) == pytest.approx(1 / 400, rel=0.025)


@pytest.mark.parametrize("widths", [(30, 12, 12, 5), (5, 12, 12, 5)])
def test_a_first_layer_of_another_width_reads_all_inputs(widths: tuple[int, ...]) -> None:
    """Every input matters, and the layers above are those of a square network."""
    network = InvertibleNetwork(widths, seeds=(0, 1), dtype=torch.float64)
    assert network.weights[0].shape == (2, 12, widths[0])
    assert network.widths == widths
    inputs = a_batch(network.architecture).inputs.requires_grad_()
    network(inputs)[0].sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.all()
    square = InvertibleNetwork(widths[1:], seeds=(0, 1), dtype=torch.float64)
    for ours, theirs in zip(network.weights[1:], square.weights, strict=True):
        assert torch.equal(ours, theirs)


def test_auxiliary_inputs_are_asked_for_by_name() -> None:
    network = InvertibleNetwork((30, 12, 5), seeds=(0, 1), auxiliary_inputs=True)
    square = InvertibleNetwork((12, 12, 5), seeds=(0, 1))
    assert network.weights[0].shape == (2, 12, 12)
    assert torch.equal(network.weights[0], square.weights[0])
    inputs = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(inputs), square(inputs[:, :12]))


def test_layers_are_told() -> None:
    told = repr(InvertibleNetwork((9, 9, 4), seeds=(3, 5), auxiliary_inputs=True))
    for words in ("9 inputs", "1: Dense(width=9)", "reads 4 of 9 units", "seeds (3, 5)", "float32"):
        assert words in told
    told = repr(a_network(CONVOLUTIONS["few channels"]))
    for words in ("3 x 5 x 5 inputs", "reads 1 of 3 channels", "4 x 4 x 4 units", "weight (4, 4)"):
        assert words in told


@pytest.mark.parametrize("architecture", ARCHITECTURES.values())
def test_an_architecture_goes_through_json(architecture: Architecture) -> None:
    text = json.dumps(architecture.as_plain())
    assert Architecture.from_plain(json.loads(text)) == architecture
    asked = replace(Architecture.of_widths((9, 5)), auxiliary_inputs=True)
    assert Architecture.from_plain(asked.as_plain()) == asked


@pytest.mark.parametrize(
    "plain_",
    [
        {},
        {"input_shape": [4], "layers": [{"height": 3}], "auxiliary_inputs": False},
        {"input_shape": [4], "layers": 3, "auxiliary_inputs": False},
        {"input_shape": [4], "layers": [{"width": 0}], "auxiliary_inputs": False},
    ],
)
def test_what_is_of_no_architecture_is_refused(plain_: dict) -> None:
    with pytest.raises(ArgumentError, match="allowed"):
        Architecture.from_plain(plain_)


def _build(shape: tuple[int, ...], *layers: Layer, **more: bool) -> Architecture:
    return Architecture(shape, layers, **more)


REFUSED = {
    "no layers": (lambda: _build((3,)), ["no layers", "at least one"]),
    "two dimensions": (lambda: _build((3, 4), Dense(2)), ["(3, 4)", "(channels, height, width)"]),
    "an empty image": (lambda: _build((1, 0, 4), Dense(2)), ["(1, 0, 4)", "at least 1"]),
    "channels": (
        lambda: _build((1, 5, 5), Convolution(2, 3)),
        ["layer 1, Convolution(channels=2", "channels is 2", "1 to 1"],
    ),
    "kernel": (
        lambda: _build((1, 5, 5), Convolution(1, 3, 2), Convolution(1, 3)),
        ["layer 2, Convolution", "kernel_size is 3 on 2 x 2", "1 to 2"],
    ),
    "rectangular inside": (
        lambda: _build((1, 5, 5), Convolution(1, 3), Convolution(1, 3, outputs=4)),
        ["layer 2", "4 x 9", "a square one"],
    ),
    "no outputs": (lambda: _build((1, 5, 5), Convolution(1, 3, outputs=0)), ["layer 1", "0 outp"]),
    "no width": (lambda: _build((4,), Dense(0)), ["layer 1 has 0 outputs", "at least 1"]),
    "wider": (lambda: _build((4,), Dense(4), Dense(5)), ["layer 2, Dense(width=5)", "1 to 4"]),
    "auxiliary": (
        lambda: _build((4,), Dense(5), auxiliary_inputs=True),
        ["layer 1, Dense(width=5)", "4 units", "1 to 4"],
    ),
    "auxiliary beside": (
        lambda: InvertibleNetwork(RECTANGLES["narrow"], auxiliary_inputs=True),
        ["auxiliary_inputs is given beside an Architecture", "beside widths"],
    ),
    "given too few": (
        lambda: InvertibleNetwork.from_parameters(
            [torch.eye(9)], [torch.zeros(9)], architecture=CONVOLUTIONS["one"]
        ),
        ["1 weights for 3 layers"],
    ),
    "given another shape": (
        lambda: InvertibleNetwork.from_parameters(
            [torch.eye(9), torch.eye(12), torch.eye(5)],
            [torch.zeros(9), torch.zeros(12), torch.zeros(5)],
            architecture=CONVOLUTIONS["one"],
        ),
        ["layer 3", "(5, 5)", "(4, 4) with (4)"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(ArgumentError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
