"""The engine's networks as torch models, and small models that the tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from gaitprop import Convolution, InvertibleNetwork
from gaitprop.feedback import feedback_of
from gaitprop.layers import Layer
from gaitprop.nn import InvertibleConv2d, InvertibleLinear
from gaitprop.rules import find_rule
from tests.gaitprop.plain import Batch


def model_of(network: InvertibleNetwork, rule: str, gamma: float = 0.0) -> nn.Sequential:
    """The first seed's parameters in modules; a rectangular first layer in torch's own."""
    shape = network.architecture.input_shape
    modules: list[nn.Module] = [nn.Unflatten(1, shape)] if len(shape) == 3 else []
    slope, feedback = network.activation.slope, feedback_of(network, find_rule(rule))
    each = zip(network.architecture.layers, network.weights, network.biases, strict=True)
    for number, (layer, weight, bias) in enumerate(each, start=1):
        step = gamma ** (network.depth - number + 1)
        module = _module(layer, network.widths[number - 1], weight[0].shape, rule, step, slope)
        kept = feedback.layers[number - 1] if feedback is not None else {}
        state = {"weight": weight[0].view_as(module.weight), "bias": bias[0]}
        state |= {f"feedback_{name}": tensor[0] for name, tensor in kept.items()}
        module.load_state_dict({**module.state_dict(), **state})
        if not isinstance(layer, Convolution):
            modules.append(nn.Flatten())
        modules.append(module)
        if not isinstance(module, InvertibleConv2d | InvertibleLinear):
            modules.append(nn.LeakyReLU(slope))
    return nn.Sequential(*modules, nn.Flatten())


def _module(
    layer: Layer, below: int, shape: torch.Size, rule: str, gamma: float, slope: float
) -> nn.Module:
    rows, columns = shape
    settings = {"rule": rule, "gamma": gamma, "negative_slope": slope, "dtype": torch.float64}
    if isinstance(layer, Convolution):
        patches = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding")}
        if rows == columns:
            return InvertibleConv2d(layer.channels, **patches, **settings)
        return nn.Conv2d(layer.channels, rows, **patches, dtype=torch.float64)
    if rows == columns:
        return InvertibleLinear(below, rows, **settings)
    return nn.Linear(below, rows, dtype=torch.float64)


def squared_error(outputs: Tensor, batch: Batch) -> Tensor:
    """½‖y − t‖² on the class outputs, summed over the batch."""
    target = functional.one_hot(batch.labels, batch.n_classes)
    return (outputs[:, : batch.n_classes] - target).square().sum() / 2


def small_model(rule: str = "gait", seed: int = 0) -> nn.Sequential:
    """A convolution and two dense layers, the second of which leaves units unread, for (1, 4, 4).

    Its weights are away from orthogonal, so that the rules differ.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        InvertibleConv2d(1, kernel_size=3, padding=1, rule=rule),
        nn.Flatten(),
        nn.Linear(144, 8),
        nn.Tanh(),
        InvertibleLinear(8, 8, rule=rule),
        InvertibleLinear(8, 3, rule=rule),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def small_batch(size: int = 6) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    images = torch.randn(size, 1, 4, 4, generator=source)
    return images, torch.randint(3, (size,), generator=source)


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    """Of every parameter, by ``loss.backward()`` from no gradients at all."""
    model.zero_grad()
    loss.backward()
    found = [parameter.grad for parameter in model.parameters()]
    assert all(each is not None for each in found)
    return found


def loss_of(model: nn.Module) -> Tensor:
    images, labels = small_batch()
    return cross_entropy(model(images), labels)


def assert_close(received: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Relative to each tensor's norm."""
    for ours, theirs in zip(received, expected, strict=True):
        assert (ours - theirs).detach().norm() <= tolerance * theirs.norm()
