"""One training step, in every way that is compared: ours, autograd's, and the published one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop import Architecture, Convolution, Dense, InvertibleNetwork
from gaitprop.nn import InvertibleLinear
from gaitprop.regularizer import add_penalty_gradient
from gaitprop.rules import RULES
from gaitprop.seeding import generator
from gaitprop.training import TrainingSettings, make_optimizer, train_step

Step = Callable[[], object]


class Contestant(NamedTuple):
    """A network and the function that trains it by one step, again and again on one batch."""

    network: InvertibleNetwork
    step: Step


ORTHOGONALITY, GAMMA, LEARNING_RATE, N_CLASSES = 0.1, 1e-3, 1e-4, 10
AUTOGRAD_BP, AUTOGRAD_BP_REGULARIZED = "autograd BP", "autograd BP, λ"
LITERAL = "literal GAIT-prop, λ"
EXACT = ("bp", "gait", "itp", "tp")
"""The paper's rules; all others are in ``benchmarks.rules``."""


@dataclass(frozen=True)
class Shape:
    """A square network and its batches; or ``CONVOLUTIONS``, for images as wide as MNIST's."""

    width: int
    hidden_layers: int
    batch_size: int
    seeds: int
    convolutional: bool = False

    @property
    def layers(self) -> int:
        """Weight matrices: one for each hidden layer, and one for the output."""
        return self.hidden_layers + 1


CONVOLUTIONS = Architecture(
    (1, 28, 28), (Convolution(1, 3, 2, 1), Convolution(4, 3, 2, 1), Dense(324))
)


def ours(rule: str, regularized: bool) -> str:
    """The name of one of our steps."""
    return f"{rule}, λ" if regularized else rule


def constrained(rule: str) -> str:
    """The name of one of our steps with weights that are kept orthogonal."""
    return f"{rule}, orthogonal"


def by_module(rule: str) -> str:
    """The name of a step of a torch model whose ``backward`` is the rule."""
    return f"{rule}, gaitprop.nn"


@lru_cache(maxsize=1)
def start(
    shape: Shape, device: torch.device, dtype: torch.dtype = torch.float32
) -> InvertibleNetwork:
    """Where all begin. Large orthogonal matrices take longer to draw than to train on."""
    layers = CONVOLUTIONS if shape.convolutional else [shape.width] * (shape.layers + 1)
    return InvertibleNetwork(layers, seeds=range(shape.seeds), dtype=dtype, device=device)


def contestant(
    name: str, shape: Shape, device: torch.device, dtype: torch.dtype = torch.float32
) -> Contestant:
    """The contestant of that name; all start from equal parameters and have the same batch."""
    drawn = start(shape, device, dtype)
    network = InvertibleNetwork.from_parameters(
        drawn.weights, drawn.biases, architecture=drawn.architecture
    )
    images, labels = _batch(shape, device, dtype)
    if name == AUTOGRAD_BP:
        return Contestant(network, _autograd(network, images, labels, orthogonality=0.0))
    if name == AUTOGRAD_BP_REGULARIZED:
        return Contestant(network, _autograd(network, images, labels, ORTHOGONALITY))
    if name == LITERAL:
        return Contestant(network, _literal(network, images, labels))
    rule, _, how = name.partition(", ")
    if how == "gaitprop.nn":
        return Contestant(network, _module(rule, network, images, labels))
    return Contestant(network, _ours(name, network, images, labels))


def _ours(name: str, network: InvertibleNetwork, images: Tensor, labels: Tensor) -> Step:
    rule, _, how = name.partition(", ")
    settings = TrainingSettings(
        rule=rule,
        learning_rate=LEARNING_RATE,
        orthogonality=ORTHOGONALITY if how == "λ" else 0.0,
        gamma=GAMMA,
        constraint=how if how == "orthogonal" else "none",
    )
    optimizer = make_optimizer(network, settings)
    return lambda: train_step(network, optimizer, images, labels, N_CLASSES, RULES[rule], settings)


def _batch(shape: Shape, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    source = generator(0, "benchmark")
    images = torch.rand(shape.seeds, shape.batch_size, shape.width, generator=source)
    labels = torch.randint(N_CLASSES, (shape.seeds, shape.batch_size), generator=source)
    return images.to(device, dtype), labels.to(device)


def _adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
    """PyTorch's as it comes."""
    settings = TrainingSettings(learning_rate=LEARNING_RATE)
    return torch.optim.Adam(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def _module(rule: str, network: InvertibleNetwork, images: Tensor, labels: Tensor) -> Step:
    """A rule as PyTorch's users write it: of one seed, without the regularizer."""
    batch, n = images.shape[-2:]
    layers = []
    for layer in range(network.depth):
        # The loss is a mean over the batch, see ``InvertibleLinear``.
        gamma = batch * GAMMA ** (network.depth - layer)
        module = InvertibleLinear(n, n, rule, gamma, device="meta")
        module.weight = torch.nn.Parameter(network.weights[layer][0])
        module.bias = torch.nn.Parameter(network.biases[layer][0])
        layers.append(module)
    model = torch.nn.Sequential(*layers)
    optimizer = _adam(list(model.parameters()))
    targets = torch.nn.functional.one_hot(labels[0], N_CLASSES).to(images.dtype)

    def run() -> None:
        optimizer.zero_grad()
        loss = (model(images[0])[:, :N_CLASSES] - targets).square().sum() / (2 * batch)
        loss.backward()
        optimizer.step()

    return run


def _autograd(
    network: InvertibleNetwork, images: Tensor, labels: Tensor, orthogonality: float
) -> Step:
    """BP as PyTorch's users write it, the regularizer as a term of the loss."""
    for parameter in network.parameters():
        parameter.requires_grad_()
    optimizer = _adam(network.parameters())
    targets = torch.nn.functional.one_hot(labels, N_CLASSES).to(images.dtype)

    def run() -> None:
        optimizer.zero_grad()
        outputs = network.forward(images)[-1][..., :N_CLASSES]
        loss = (outputs - targets).square().sum() / (2 * images.shape[-2])
        if orthogonality:
            for weight in network.weights:
                product = weight.mT @ weight
                diagonal = product.diagonal(dim1=-2, dim2=-1)
                loss = loss + orthogonality * (product.square().sum() - diagonal.square().sum())
        loss.backward()
        optimizer.step()

    return run


def _literal(network: InvertibleNetwork, images: Tensor, labels: Tensor) -> Step:
    """GAIT-prop as published: explicit inverses, targets, differences; and the regularizer."""
    optimizer = _adam(network.parameters())
    one_hot = torch.nn.functional.one_hot(labels, N_CLASSES).to(images.dtype)
    activation = network.activation

    def run() -> None:
        activations = network.forward(images)
        target = activations[-1].clone()
        target[..., :N_CLASSES] = one_hot
        for layer in range(network.depth, 0, -1):
            weight, bias = network.weights[layer - 1], network.biases[layer - 1]
            outputs, below = activations[layer], activations[layer - 1]
            error = (outputs - target) / GAMMA ** (network.depth - layer)
            local_error = activation.times_derivative(error, outputs) / images.shape[-2]
            weight.grad = add_penalty_gradient(local_error.mT @ below, weight, ORTHOGONALITY)
            bias.grad = local_error.sum(-2)
            if layer > 1:
                amount = activation.times_derivative(torch.full_like(outputs, GAMMA), outputs, 2)
                moved = activation.inverse((1 - amount) * outputs + amount * target)
                target = (moved - bias.unsqueeze(-2)) @ torch.linalg.inv(weight).mT
        optimizer.step()

    return run
