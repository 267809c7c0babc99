"""Networks of any architecture written with ``torch.nn.functional`` alone, and shared settings.

Backpropagation is autograd's, through ``conv2d``. The other rules go by targets, as the follow-up
paper writes them (arXiv 2102.11598): a convolution's inverse is ``conv_transpose2d`` with W⁻¹, less
the value of each unit for all but one of the positions that read it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gaitprop import Architecture, Convolution, Dense, InvertibleNetwork
from gaitprop.layers import Layer

CONVOLUTIONS = {
    "one": Architecture((1, 6, 6), (Convolution(1, 3, 2, 1), Dense(12), Dense(4))),
    "overlaps": Architecture(
        (2, 6, 5), (Convolution(2, 3, 1, 1), Convolution(3, 2, 2), Convolution(4, 2, 1, 1))
    ),
    "few channels": Architecture((3, 5, 5), (Convolution(1, 2, 1), Convolution(2, 3, 2), Dense(9))),
    "stride above kernel": Architecture((1, 7, 7), (Convolution(1, 2), Convolution(2, 1, 2))),
    "rectangular first": Architecture(
        (2, 5, 5), (Convolution(2, 3, 2, 1, outputs=7), Convolution(3, 2, 1), Dense(8))
    ),
    "dense below": Architecture((12,), (Dense(27), Dense(20), Dense(20))),
}
RECTANGLES = {
    "narrow": Architecture((11,), (Dense(6), Dense(6), Dense(4))),
    "wide": Architecture((4,), (Dense(9), Dense(9), Dense(5))),
    "images": Architecture((2, 3, 2), (Dense(7), Dense(5))),
}
ARCHITECTURES = CONVOLUTIONS | RECTANGLES
CLASSES = 3


class Batch(NamedTuple):
    """Flat inputs (batch, n_0), labels (batch,) and how many classes."""

    inputs: Tensor
    labels: Tensor
    n_classes: int


class Gradients(NamedTuple):
    """Of every layer, layer 1 first; without a seed dimension."""

    weights: list[Tensor]
    biases: list[Tensor]


def a_network(
    architecture: Architecture,
    seeds: tuple[int, ...] = (3,),
    dtype: torch.dtype = torch.float64,
    orthogonal: bool = True,
    slope: float = 0.1,
    bend: float = 0.0,
) -> InvertibleNetwork:
    """With biases, and weights that are ``bend`` away from orthogonal."""
    network = InvertibleNetwork(
        architecture, "leaky_relu", slope, orthogonal, seeds, dtype=torch.float64
    )
    source = torch.Generator().manual_seed(2)
    for parameter, size in (
        *((w, bend) for w in network.weights),
        *((b, 0.5) for b in network.biases),
    ):
        parameter += size * torch.randn(parameter.shape, dtype=torch.float64, generator=source)
    return InvertibleNetwork.from_parameters(
        [weight.to(dtype) for weight in network.weights],
        [bias.to(dtype) for bias in network.biases],
        negative_slope=slope,
        seeds=seeds,
        architecture=architecture,
    )


def a_batch(architecture: Architecture, size: int = 7, dtype: torch.dtype = torch.float64) -> Batch:
    source = torch.Generator().manual_seed(5)
    inputs = torch.randn(size, architecture.widths[0], dtype=torch.float64, generator=source)
    return Batch(inputs.to(dtype), torch.randint(CLASSES, (size,), generator=source), CLASSES)


def forward(
    network: InvertibleNetwork,
    weights: list[Tensor],
    biases: list[Tensor],
    inputs: Tensor,
    feedback: list[Tensor] | None = None,
) -> list[Tensor]:
    """y_0…y_L as images, (batch, channels, height, width); flat units are (batch, n, 1, 1).

    Autograd goes back to what a layer has read by ``feedback``, where it is given, in the place of
    the weights.
    """
    shape = network.architecture.input_shape
    units = [inputs.reshape(-1, *(shape if len(shape) == 3 else (*shape, 1, 1)))]
    for number, (layer, weight, bias) in enumerate(
        zip(network.architecture.layers, weights, biases, strict=True)
    ):
        if feedback is None:
            hidden = _hidden(layer, weight, bias, units[-1])
        else:
            hidden = _hidden(layer, weight, bias, units[-1].detach())
            back = _hidden(layer, feedback[number], None, units[-1])
            hidden = hidden + back - back.detach()
        units.append(functional.leaky_relu(hidden, network.activation.slope))
    return units


def _hidden(layer: Layer, weight: Tensor, bias: Tensor | None, below: Tensor) -> Tensor:
    if isinstance(layer, Convolution):
        kernel = weight.reshape(-1, layer.channels, layer.kernel_size, layer.kernel_size)
        return functional.conv2d(
            below[:, : layer.channels], kernel, bias, layer.stride, layer.padding
        )
    read = below.flatten(1)[:, : weight.shape[1]]
    return functional.linear(read, weight, bias)[..., None, None]


def autograd(
    network: InvertibleNetwork,
    batch: Batch,
    loss: str = "squared_error",
    seed: int = 0,
    feedback: list[Tensor] | None = None,
) -> Gradients:
    """BP of the batch's mean loss; by other matrices on the way down, where they are given."""
    weights = [weight[seed].clone().requires_grad_() for weight in network.weights]
    biases = [bias[seed].clone().requires_grad_() for bias in network.biases]
    units = forward(network, weights, biases, batch.inputs, feedback)
    outputs = units[-1].flatten(1)[:, : batch.n_classes]
    if loss == "cross_entropy":
        functional.cross_entropy(outputs, batch.labels).backward()
    else:
        target = batch.labels
        if not target.is_floating_point():
            target = functional.one_hot(batch.labels, batch.n_classes)
        ((outputs - target).square().sum() / 2 / len(outputs)).backward()
    return Gradients([w.grad for w in weights], [b.grad for b in biases])


def by_targets(network: InvertibleNetwork, batch: Batch, rule: str, gamma: float) -> Gradients:
    """GAIT-prop, ITP or TP by the published formulas, for the first seed."""
    weights = [weight[0] for weight in network.weights]
    biases = [bias[0] for bias in network.biases]
    units = forward(network, weights, biases, batch.inputs)
    slope = network.activation.slope
    target = units[-1].flatten(1).clone()
    target[:, : batch.n_classes] = functional.one_hot(batch.labels, batch.n_classes).to(target)
    target = target.view_as(units[-1])
    found: list[tuple[Tensor, Tensor]] = []
    layers = list(zip(network.architecture.layers, weights, biases, strict=True))
    divisor = 1.0
    for (layer, weight, bias), y, below in reversed(
        list(zip(layers, units[1:], units[:-1], strict=True))
    ):
        derivative = torch.ones_like(y).where(y > 0, slope)
        local = derivative * (y - target) / divisor
        found.append(_update(layer, weight, bias, below, local))
        if len(found) < network.depth:
            step = {"gait": gamma * derivative**2, "itp": gamma, "tp": 1.0}[rule]
            aim = (1 - step) * y + step * target
            hidden = torch.where(aim > 0, aim, aim / slope) - bias[None, :, None, None]
            target = _inverse(layer, torch.linalg.inv(weight), hidden, below)
            divisor *= 1.0 if rule == "tp" else gamma
    return Gradients([w for w, _ in found[::-1]], [b for _, b in found[::-1]])


def _update(
    layer: Layer, weight: Tensor, bias: Tensor, below: Tensor, local: Tensor
) -> tuple[Tensor, Tensor]:
    """What the chain rule makes of an error of the hidden units, by autograd through the layer."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    if isinstance(layer, Convolution):
        kernel = weight.reshape(-1, layer.channels, layer.kernel_size, layer.kernel_size)
        hidden = functional.conv2d(
            below[:, : layer.channels], kernel, bias, layer.stride, layer.padding
        )
    else:
        hidden = functional.linear(below.flatten(1)[:, : weight.shape[1]], weight, bias)
    (hidden.reshape_as(local) * local).sum().div(len(below)).backward()
    assert weight.grad is not None and bias.grad is not None
    return weight.grad, bias.grad


def _inverse(layer: Layer, inverse: Tensor, hidden: Tensor, below: Tensor) -> Tensor:
    if not isinstance(layer, Convolution):
        target = below.flatten(1).clone()
        target[:, : len(inverse)] = hidden.flatten(1) @ inverse.T
        return target.view_as(below)
    c, k = layer.channels, layer.kernel_size
    sides = [(side - 1) * layer.stride - 2 * layer.padding + k for side in hidden.shape[-2:]]
    missing = [whole - side for whole, side in zip(below.shape[-2:], sides, strict=True)]

    def spread(values: Tensor, kernel: Tensor) -> Tensor:
        got = functional.conv_transpose2d(values, kernel, None, layer.stride, layer.padding)
        return functional.pad(got, (0, missing[1], 0, missing[0]))

    kernel = inverse.T.reshape(-1, c, k, k)
    ones = torch.ones(1, 1, *hidden.shape[-2:], dtype=hidden.dtype)
    counts = spread(ones, torch.ones(1, 1, k, k, dtype=hidden.dtype))
    target = below.clone()
    target[:, :c] = spread(hidden, kernel) - (counts - 1) * below[:, :c]
    return target
