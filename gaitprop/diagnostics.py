"""What is watched during training: agreement with backpropagation, and how the layers are doing.

How close a layer is to orthogonal decides how close GAIT-prop is to backpropagation; how close it
is to singular decides whether it can be inverted at all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaitprop.gradients import LayerGradient, check_rule_settings, passages, propagate
from gaitprop.linalg import less_identity, matmul
from gaitprop.losses import Loss, check_classes, check_targets, find_loss
from gaitprop.network import InvertibleNetwork
from gaitprop.regularizer import orthogonality_defect
from gaitprop.rules import RULES, Rule, find_rule
from gaitprop.rules.feedback import FeedbackRule
from gaitprop.surroundings import undisturbed

LOST_DIGITS = 1e-2
"""A layer is close to singular where a solve may be wrong by more than this, relatively."""


class Diagnostics(NamedTuple):
    """One look at a network, all on the CPU.

    Attributes:
        orthogonality_defect: (S, L), ‖WᵀW − I‖_F / √n, a mean over all directions.
        condition_number: (S, L), largest by smallest singular value; 1 for orthogonal weights.
        bp_cosine: (S, L), float64, cosine of the rule's weight gradient with BP's.
        bp_relative_norm: (S, L), float64, ratio of their norms.
        defect_of_errors: (S, L), see ``defects_of_errors``.
        inverse_defect: (S, L − 1), layer 2 first, see ``inverse_defects``; None for rules that
            learn no inverses, whatever the network keeps for another.
    """

    orthogonality_defect: Tensor
    condition_number: Tensor
    bp_cosine: Tensor
    bp_relative_norm: Tensor
    defect_of_errors: Tensor
    inverse_defect: Tensor | None = None


class Alignment(NamedTuple):
    """How a rule's weight gradients compare to backpropagation's; both (S, L), float64."""

    cosine: Tensor
    relative_norm: Tensor


@undisturbed
def alignment_with_bp(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    rule: str | Rule,
    gamma: float,
    loss: str | Loss = "squared_error",
) -> Alignment:
    """Cosine and ratio of norms, rule to BP, of each layer's weight gradient, without regularizer.

    Both gradients come from one forward pass: the same batch and the same parameters.

    Args:
        network: with a seed dimension.
        inputs: (batch, n_0), or (S, batch, n_0).
        labels: (batch,) or (S, batch), or soft targets, as for ``gaitprop.layer_gradients``.
        n_classes: how many outputs carry a target.
        rule: by name, see ``gaitprop.rules``, or a function.
        gamma: the rule's γ.
        loss: in ``gaitprop.losses.LOSSES``, or from ``find_loss``.
    """
    check_rule_settings(gamma, 0.0)
    activations, error = _forward(network, inputs, labels, n_classes, loss)
    reference = propagate(network, activations, error, RULES["bp"], 0.0, 0.0)
    gradients = reference
    if rule != "bp":
        gradients = propagate(network, activations, error, find_rule(rule), gamma, 0.0)
    pairs = [
        _compare(gradient, target) for gradient, target in zip(gradients, reference, strict=True)
    ]
    return Alignment(*(torch.stack(values, dim=-1) for values in zip(*pairs, strict=True)))


@undisturbed
def defects_of_errors(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    loss: str | Loss = "squared_error",
) -> Tensor:
    """How far each layer is from orthogonal in the directions that BP's errors travel in: (S, L).

    ‖E u‖ / ‖u‖ over the batch's u = W_lᵀ (D_l∘e_l), E = W_lᵀW_l − I: to first order by how much
    GAIT-prop's error leaves BP's in this layer (docs/theory_deviations.md). Errors have few
    directions, and training changes the weights in just these: it may be large where the mean
    defect is small. Of a first layer with fewer outputs than inputs, u = D_l∘e_l and W_l W_lᵀ − I.

    Args:
        network: with a seed dimension.
        inputs: (batch, n_0), or (S, batch, n_0).
        labels: as for ``alignment_with_bp``.
        n_classes: how many outputs carry a target.
        loss: in ``gaitprop.losses.LOSSES``, or from ``find_loss``.
    """
    activations, error = _forward(network, inputs, labels, n_classes, loss)
    walk = passages(network, activations, error, RULES["bp"], 0.0)
    found = [_defect_along(view.weight, view.local_error) for view, _, _ in walk]
    return torch.stack(found[::-1], dim=-1)


@undisturbed
def diagnose(
    network: InvertibleNetwork,
    inputs: Tensor,
    labels: Tensor,
    n_classes: int,
    rule: str | Rule,
    gamma: float,
    loss: str | Loss = "squared_error",
) -> Diagnostics:
    """All of it for the network as it is; arguments as for ``alignment_with_bp``."""
    alignment = alignment_with_bp(network, inputs, labels, n_classes, rule, gamma, loss)
    found, kept = find_rule(rule), network.feedback
    is_kept = kept is not None and isinstance(found, FeedbackRule) and found.name == kept.rule
    missed = inverse_defects(network) if is_kept else None
    return Diagnostics(
        orthogonality_defect=orthogonality_defects(network).cpu(),
        condition_number=condition_numbers(network).cpu(),
        bp_cosine=alignment.cosine.cpu(),
        bp_relative_norm=alignment.relative_norm.cpu(),
        defect_of_errors=defects_of_errors(network, inputs, labels, n_classes, loss).cpu(),
        inverse_defect=missed if missed is None else missed.cpu(),
    )


@undisturbed
def condition_numbers(network: InvertibleNetwork) -> Tensor:
    """Condition number of every layer in the 2-norm: (S, L), in the network's dtype.

    At least 1, which orthogonal matrices and their multiples have; infinite for singular ones, and
    NaN for those that hold NaN or inf.
    """
    return torch.stack([_condition_number(weight) for weight in network.weights], dim=-1)


def close_to_singular(condition_numbers: Tensor) -> Tensor:
    """Where solves may lose all but two digits: condition number × unit roundoff > 0.01; bool."""
    return condition_numbers * torch.finfo(condition_numbers.dtype).eps > LOST_DIGITS


@undisturbed
def orthogonality_defects(network: InvertibleNetwork) -> Tensor:
    """‖WᵀW − I‖_F / √n of every layer: (S, L), in the network's dtype."""
    return torch.stack([orthogonality_defect(weight) for weight in network.weights], dim=-1)


@undisturbed
def inverse_defects(network: InvertibleNetwork) -> Tensor | None:
    """δ = ‖V_l W_l − I‖₂ of the inverses V_l that the network's rule learns: (S, L − 1).

    Layer 2 first; None where it learns none. With ε of the weights' orthogonality it bounds how far
    the rule's errors are from backpropagation's, see docs/theory_deviations.md. NaN where something
    is not finite.
    """
    if network.feedback is None:
        return None
    layers = zip(network.feedback.layers[1:], network.weights[1:], strict=True)
    # What another package's rule calls so may be anything.
    pairs = [(kept["inverse"], weight) for kept, weight in layers if "inverse" in kept]
    if not pairs or any(inverse.shape != weight.shape for inverse, weight in pairs):
        return None
    return torch.stack([_missed(inverse, weight) for inverse, weight in pairs], dim=-1)


def _missed(inverse: Tensor, weight: Tensor) -> Tensor:
    product = less_identity(matmul(inverse, weight))
    finite = product.isfinite().flatten(-2).all(-1)
    size: Tensor = torch.linalg.svdvals(product.where(finite[..., None, None], 0.0))[..., 0]
    return size.where(finite, torch.nan)


def _forward(
    network: InvertibleNetwork, inputs: Tensor, labels: Tensor, n_classes: int, loss: str | Loss
) -> tuple[list[Tensor], Tensor]:
    check_classes(n_classes, network.widths)
    activations = network.forward(inputs)
    outputs = activations[-1]
    targets = check_targets(labels, outputs.shape[:-1], n_classes, outputs)
    return activations, find_loss(loss).error(outputs, targets, n_classes)


def _defect_along(weight: Tensor, local_error: Tensor) -> Tensor:
    if weight.shape[-2] >= weight.shape[-1]:
        travelling = matmul(local_error, weight)
        excess = matmul(matmul(travelling, weight.mT), weight) - travelling
    else:
        travelling = local_error
        excess = matmul(matmul(travelling, weight), weight.mT) - travelling
    size: Tensor = excess.flatten(-2).norm(dim=-1) / travelling.flatten(-2).norm(dim=-1)
    return size


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
