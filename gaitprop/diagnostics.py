"""What is watched during training: agreement with backpropagation, and how the layers are doing.

How close a layer is to orthogonal decides how close GAIT-prop is to backpropagation; how close it
is to singular decides whether it can be inverted at all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.gradients import LayerGradient, output_error, propagate
from gaitprop.network import InvertibleNetwork
from gaitprop.regularizer import orthogonality_defect
from gaitprop.rules import RULES, find_rule

LOST_DIGITS = 1e-2
"""A layer is close to singular where a solve may be wrong by more than this, relatively."""


class Diagnostics(NamedTuple):
    """One look at a network, all on the CPU.

    Attributes:
        orthogonality_defect: (S, L), ‖WᵀW − I‖_F / √n.
        condition_number: (S, L), largest by smallest singular value; 1 for orthogonal weights.
        bp_cosine: (S, L), float64, cosine of the rule's weight gradient with BP's.
        bp_relative_norm: (S, L), float64, ratio of their norms.
    """

    orthogonality_defect: Tensor
    condition_number: Tensor
    bp_cosine: Tensor
    bp_relative_norm: Tensor


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
        rule: by name, see ``gaitprop.rules``.
        gamma: the rule's γ.
    """
    activations = network.forward(inputs)
    error = output_error(activations[-1], labels, n_classes)
    reference = propagate(network, activations, error, RULES["bp"], 0.0, 0.0)
    gradients = reference
    if rule != "bp":
        gradients = propagate(network, activations, error, find_rule(rule), gamma, 0.0)
    pairs = [
        _compare(gradient, target) for gradient, target in zip(gradients, reference, strict=True)
    ]
    return Alignment(*(torch.stack(values, dim=-1) for values in zip(*pairs, strict=True)))


def diagnose(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    rule: str,
    gamma: float,
) -> Diagnostics:
    """All of it for the network as it is; arguments as for ``alignment_with_bp``."""
    alignment = alignment_with_bp(network, inputs, labels, n_classes, rule, gamma)
    return Diagnostics(
        orthogonality_defect=orthogonality_defects(network).cpu(),
        condition_number=condition_numbers(network).cpu(),
        bp_cosine=alignment.cosine.cpu(),
        bp_relative_norm=alignment.relative_norm.cpu(),
    )


def condition_numbers(network: InvertibleNetwork) -> Tensor:
    """Condition number of every layer in the 2-norm: (S, L), in the network's dtype.

    At least 1, which orthogonal matrices and their multiples have; infinite for singular ones, and
    NaN for those that hold NaN or inf.
    """
    return torch.stack([_condition_number(weight) for weight in network.weights], dim=-1)


def close_to_singular(condition_numbers: Tensor) -> Tensor:
    """Where solves may lose all but two digits: condition number × unit roundoff > 0.01; bool."""
    return condition_numbers * torch.finfo(condition_numbers.dtype).eps > LOST_DIGITS


def orthogonality_defects(network: InvertibleNetwork) -> Tensor:
    """‖WᵀW − I‖_F / √n of every layer: (S, L), in the network's dtype."""
    return torch.stack([orthogonality_defect(weight) for weight in network.weights], dim=-1)


def _condition_number(weight: Tensor) -> Tensor:
    finite = weight.isfinite().flatten(-2).all(-1)
    # LAPACK refuses what is not finite.
    singular_values = torch.linalg.svdvals(weight.where(finite[..., None, None], 0.0))
    ratio: Tensor = singular_values[..., 0] / singular_values[..., -1]
    return ratio.where(finite, torch.nan)


def _compare(gradient: LayerGradient, reference: LayerGradient) -> tuple[Tensor, Tensor]:
    ours, theirs = gradient.weight.double().flatten(-2), reference.weight.double().flatten(-2)
    our_norm, their_norm = ours.norm(dim=-1), theirs.norm(dim=-1)
    cosine = (ours * theirs).sum(-1) / (our_norm * their_norm)
    return cosine, our_norm / their_norm
