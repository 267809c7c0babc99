"""What is watched during training: agreement with backpropagation, distance from orthogonality."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.gradients import LayerGradient, output_error, propagate
from gaitprop.network import InvertibleNetwork
from gaitprop.regularizer import orthogonality_defect
from gaitprop.rules import RULES, find_rule


class Alignment(NamedTuple):
    """How a rule's weight gradients compare to backpropagation's; both (S, L), float64."""

    cosine: Tensor
    relative_norm: Tensor


def alignment_with_bp(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    rule: str,
    gamma: float,
) -> Alignment:
    """Cosine and ratio of norms, rule to BP, of each layer's weight gradient, without regularizer.

    Both gradients come from one forward pass: the same batch and the same parameters.

    Args:
        network: with a seed dimension.
        inputs: (batch, n_0), or (S, batch, n_0).
        labels: (S, batch), int64.
        n_classes: how many outputs carry a target.
        rule: a name in ``RULES``.
        gamma: the rule's γ.
    """
    activations = network.forward(inputs)
    error = output_error(activations[-1], labels, n_classes)
    reference = propagate(network, activations, error, RULES["bp"], 0.0, 0.0)
    gradients = propagate(network, activations, error, find_rule(rule), gamma, 0.0)
    pairs = [
        _compare(gradient, target) for gradient, target in zip(gradients, reference, strict=True)
    ]
    return Alignment(*(torch.stack(values, dim=-1) for values in zip(*pairs, strict=True)))


def orthogonality_defects(network: InvertibleNetwork) -> Tensor:
    """‖WᵀW − I‖_F / √n of every layer: (S, L), in the network's dtype."""
    return torch.stack([orthogonality_defect(weight) for weight in network.weights], dim=-1)


def _compare(gradient: LayerGradient, reference: LayerGradient) -> tuple[Tensor, Tensor]:
    ours, theirs = gradient.weight.double().flatten(-2), reference.weight.double().flatten(-2)
    our_norm, their_norm = ours.norm(dim=-1), theirs.norm(dim=-1)
    cosine = (ours * theirs).sum(-1) / (our_norm * their_norm)
    return cosine, our_norm / their_norm
