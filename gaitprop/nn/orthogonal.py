"""Near orthogonal weights, where GAIT-prop is backpropagation: by a penalty, or after each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gaitprop.constraints import ORTHOGONAL, orthogonalize
from gaitprop.errors import ArgumentError
from gaitprop.nn.function import WeightPenalty
from gaitprop.nn.layers import InvertibleConv2d, InvertibleLinear
from gaitprop.regularizer import check_penalty, orthogonality_defect


def orthogonality_penalty(module: nn.Module, kind: str = "off_diagonal") -> Tensor:
    """Summed over the module's invertible layers; times λ, to be added to the loss.

    Args:
        module: any, with at least one invertible layer in it.
        kind: ``"off_diagonal"``, Σ_{i≠j} (w_i · w_j)² over the columns of a weight (Ahmad, van
            Gerven and Ambrogioni, NeurIPS 2020, arXiv 2006.06438), or ``"full"``, ‖WᵀW − I‖²_F,
            which asks for unit columns too, as the theorem does (arXiv 2102.11598).

    Returns:
        A scalar, differentiable by autograd.

    Raises:
        ArgumentError: the kind is unknown, or there is no invertible layer.
    """
    check_penalty(kind)
    penalties = [
        WeightPenalty.apply(weight, kind)[0]  # type: ignore[no-untyped-call]
        for weight in _weights(module)
    ]
    return torch.stack(penalties).sum()


@torch.no_grad()
def orthogonal_(module: nn.Module) -> None:
    """Makes the weights of the module's invertible layers orthogonal to rounding, in place.

    To be called after each step of an optimizer: GAIT-prop is then backpropagation throughout. Each
    weight becomes the orthogonal matrix nearest to it; see ``gaitprop.constraints``.

    Raises:
        ArgumentError: there is no invertible layer, or a weight is too far from any orthogonal
            matrix, as one of a singular value above √3 is; it is left as it was.
    """
    for weight in _weights(module):
        nearest = orthogonalize(weight.clone(memory_format=torch.contiguous_format))
        if not orthogonality_defect(nearest) < ORTHOGONAL:
            largest = float(torch.linalg.matrix_norm(weight, 2))
            raise ArgumentError(
                f"a {len(weight)} x {len(weight)} weight of largest singular value {largest:.3g} is"
                " too far from any orthogonal matrix; allowed: full rank, and below 1.73"
            )
        weight.copy_(nearest)


def _weights(module: nn.Module) -> list[nn.Parameter]:
    kinds = (InvertibleLinear, InvertibleConv2d)
    found = [each.weight for each in module.modules() if isinstance(each, kinds)]
    if not found:
        raise ArgumentError(
            f"{type(module).__name__} has no invertible layer; allowed: a module with an"
            " InvertibleLinear or InvertibleConv2d in it"
        )
    return found
