"""What a rule is compared to, on what, and by which measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.gradients import LayerGradient, passages
from gaitprop.layers import Architecture
from gaitprop.losses import check_classes, check_targets, squared_error
from gaitprop.network import InvertibleNetwork
from gaitprop.rules import find_rule
from gaitprop.seeding import generator
from gaitprop.surroundings import drawn_on_the_cpu, own_precision, undisturbed

SLOPE = 0.1


class Problem(NamedTuple):
    """A network of one seed and a batch for it: inputs (batch, n_0), labels (batch,)."""

    network: InvertibleNetwork
    inputs: Tensor
    labels: Tensor
    n_classes: int

    def rounded(self, dtype: torch.dtype) -> Problem:
        """A copy in another precision."""
        network = _copy(self.network, dtype)
        return self._replace(network=network, inputs=self.inputs.to(dtype))

    def only(self, keep: Tensor) -> Problem:
        """The samples where ``keep`` (batch,) is true."""
        return self._replace(inputs=self.inputs[keep], labels=self.labels[keep])


def orthogonal_problem(
    layers: Sequence[int] | Architecture,
    activation: str,
    seed: int,
    batch: int = 60,
    device: torch.device | str = "cpu",
) -> Problem:
    """Orthogonal weights, Gaussian biases and inputs, ten classes at most; float64.

    The biases (standard deviation 0.5) keep the activations' size from fading with depth.
    """
    if not isinstance(layers, Architecture):
        layers = Architecture.of_widths(layers, auxiliary_inputs=True)
    network = InvertibleNetwork(
        layers, activation, SLOPE, seeds=(seed,), dtype=torch.float64, device=device
    )
    source = generator(seed, "verification")
    widths = network.widths
    n_classes = min(10, widths[-1])
    with drawn_on_the_cpu():
        for bias in network.biases:
            bias.copy_(0.5 * torch.randn(bias.shape, dtype=torch.float64, generator=source))
        inputs = torch.randn(batch, widths[0], dtype=torch.float64, generator=source)
        labels = torch.randint(n_classes, (batch,), generator=source)
    return Problem(network, inputs.to(device), labels.to(device), n_classes)


def backpropagation(problem: Problem) -> list[LayerGradient]:
    """The gradients of ½‖y_L − t‖², batch mean, by autograd through plain products.

    Raises:
        ArgumentError: the labels are not allowed.
    """
    network = problem.network
    # Whatever the caller has switched off.
    with torch.inference_mode(False), torch.enable_grad(), own_precision():
        weights, biases = (
            [each.detach().clone().requires_grad_() for each in tensors]
            for tensors in (network.weights, network.biases)
        )
        units = problem.inputs.detach().clone()
        for reading, weight, bias in zip(
            network.architecture.readings, weights, biases, strict=True
        ):
            hidden = reading.read(units) @ weight.mT + bias.unsqueeze(-2)
            units = reading.units(network.activation.value(hidden))
        outputs = units[..., : problem.n_classes]
        labels = checked_labels(network, units, problem.labels, problem.n_classes).clone()
        target = torch.nn.functional.one_hot(labels, problem.n_classes).to(outputs.dtype)
        loss = (outputs - target).square().sum() / (2 * outputs.shape[-2])
        found = torch.autograd.grad(loss, [*weights, *biases])
    pairs = zip(found[: network.depth], found[network.depth :], strict=True)
    return [LayerGradient(weight, bias) for weight, bias in pairs]


def checked_labels(
    network: InvertibleNetwork, outputs: Tensor, labels: Tensor, n_classes: int
) -> Tensor:
    """Labels for every sample of the outputs, (S, batch) or (batch,), int64.

    Args:
        network: whose last layer has an output for each class.
        outputs: y_L, (S, batch, n_L), or (batch, n_L) without a seed dimension.
        labels: (batch,) or (S, batch), integers in 0…n_classes−1.
        n_classes: how many outputs carry a target.

    Raises:
        ArgumentError: there are not as many, or one is no class, or a class has no output, or
            targets are soft, which the paper's are not.
    """
    check_classes(n_classes, network.widths)
    labels = check_targets(labels, outputs.shape[:-1], n_classes, outputs)
    if labels.is_floating_point():
        raise ArgumentError("labels are soft targets; allowed: integers, as published")
    return labels


@undisturbed
def crossings(problem: Problem, rule: str, gamma: float) -> Tensor:
    """How many units of each sample the rule's targets push across the kink, layers 2…L.

    Layer l's target is y_l − s q with q = D_l²∘e_l (GAIT-prop) or e_l, e_l by the rule itself, and
    s = γ^k (TP: 1). BP has no targets, a linear network has no kink.

    Returns:
        (batch,), int64.

    Raises:
        ArgumentError: the rule is none of bp, gait, itp and tp, or the labels are not allowed.
    """
    network = problem.network
    if rule not in ("bp", "gait", "itp", "tp"):
        raise ArgumentError(f"rule is {rule!r}; allowed: bp, gait, itp, tp")
    counts = torch.zeros_like(problem.labels)
    if rule == "bp" or network.activation.slope == 1.0:
        return counts
    activations = network.forward(problem.inputs)
    labels = checked_labels(network, activations[-1], problem.labels, problem.n_classes)
    error = squared_error(activations[-1], labels, problem.n_classes)
    for view, arriving, step in passages(network, activations, error, find_rule(rule), gamma):
        if view.number == 1:
            continue
        scale = 1.0 if rule == "tp" else step
        direction = arriving
        if rule == "gait":
            direction = network.activation.times_derivative(arriving, view.outputs, 2)
        target = torch.sub(view.outputs, direction, alpha=scale)
        crossed = (view.outputs > 0) != (target > 0)
        counts += crossed.reshape(len(counts), -1).sum(-1)
    return counts


def relative_differences(
    left: Sequence[LayerGradient], right: Sequence[LayerGradient]
) -> list[float]:
    """‖left − right‖_F / ‖right‖_F of each layer, the larger of weight and bias; inf for NaN."""
    found = []
    for layer in zip(left, right, strict=True):
        pairs = [(ours.double(), theirs.double()) for ours, theirs in zip(*layer, strict=True)]
        ratios = [
            float((ours - theirs).norm() / theirs.norm()) if not ours.equal(theirs) else 0.0
            for ours, theirs in pairs
        ]
        found.append(max(ratio if ratio == ratio else float("inf") for ratio in ratios))
    return found


def _copy(network: InvertibleNetwork, dtype: torch.dtype) -> InvertibleNetwork:
    return InvertibleNetwork.from_parameters(
        [weight.to(dtype) for weight in network.weights],
        [bias.to(dtype) for bias in network.biases],
        negative_slope=network.activation.slope,
        seeds=network.seeds,
        architecture=network.architecture,
    )
