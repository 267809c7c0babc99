"""Near orthogonal weights, where GAIT-prop is backpropagation: by a penalty, or after each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gaitprop.constraints import orthogonalize
from gaitprop.errors import ArgumentError
from gaitprop.linalg import matmul
from gaitprop.nn.function import WeightPenalty
from gaitprop.nn.functional import check_dtype
from gaitprop.nn.layers import InvertibleConv2d, InvertibleLinear
from gaitprop.regularizer import check_penalty, orthogonality_defect
from gaitprop.surroundings import undisturbed

NEAR = 0.5
"""Below this ‖WᵀW − I‖_F no singular value of W is below 0.7, so that W has an inverse."""


def orthogonality_penalty(module: nn.Module, kind: str = "off_diagonal") -> Tensor:
    """Summed over the module's invertible layers; times λ, to be added to the loss.

    A weight that two layers share counts twice.

    Args:
        module: any, with at least one invertible layer in it.
        kind: ``"off_diagonal"``, Σ_{i≠j} (w_i · w_j)² over the columns of a weight (Ahmad, van
            Gerven and Ambrogioni, NeurIPS 2020, arXiv 2006.06438), or ``"full"``, ‖WᵀW − I‖²_F,
            which asks for unit columns too, as the theorem does (arXiv 2102.11598).

    Returns:
        A scalar, differentiable by autograd once; on the first of the layers' devices.

    Raises:
        ArgumentError: the kind is unknown, there is no invertible layer, or a weight is in half
            precision.
    """
    check_penalty(kind)
    penalties = [
        WeightPenalty.apply(weight, kind)[0]  # type: ignore[no-untyped-call]
        for weight in _weights(module).values()
    ]
    return torch.stack([each.to(penalties[0].device) for each in penalties]).sum()


@undisturbed
def orthogonal_(module: nn.Module) -> None:
    """Makes the weights of the module's invertible layers orthogonal to rounding, in place.

    To be called after each step of an optimizer: GAIT-prop is then backpropagation throughout. Each
    weight becomes the orthogonal matrix nearest to it, of whatever size it is; see
    ``gaitprop.constraints``. One that is frozen (``requires_grad_(False)``) stays as it is, and so
    does one on the meta device.

    Args:
        module: any, with at least one invertible layer in it; changed.

    Raises:
        ArgumentError: there is no invertible layer, or a weight has no inverse to working
            precision, or holds inf or NaN, or is computed from other parameters, or spread over
            processes; nothing was changed.
    """
    found: list[tuple[nn.Parameter, Tensor]] = []
    for name, weight in _weights(module).items():
        if not isinstance(weight, nn.Parameter):
            raise ArgumentError(
                f"{name} is computed from other parameters, as by a parametrization or pruning, so"
                " that nothing can be put in its place; allowed: an nn.Parameter"
            )
        if hasattr(weight, "full_tensor"):
            raise ArgumentError(f"{name} is spread over processes, a DTensor; allowed: a whole one")
        if not weight.requires_grad or weight.is_meta:
            continue
        nearest = weight.clone(memory_format=torch.contiguous_format)
        largest = nearest.abs().max()
        if not 1e-3 < largest < 1e3:
            # Of all its multiples the nearest is the same, and squares of these may overflow.
            nearest /= largest
        near = _defect(nearest) < NEAR
        orthogonalize(nearest)
        if not near and not _is_nearest(nearest, weight):
            n, fault = len(weight), "holds inf or NaN"
            if weight.isfinite().all():
                smallest = float(torch.linalg.matrix_norm(weight, -2))
                fault = f"is singular to working precision (smallest singular value {smallest:.3g})"
            raise ArgumentError(
                f"{name}, {n} x {n}, {fault}, so that no orthogonal matrix is the nearest; allowed:"
                " a weight of full rank, and torch.set_float32_matmul_precision('highest')"
            )
        found.append((weight, nearest))
    for weight, nearest in found:
        weight.copy_(nearest)


def _defect(matrix: Tensor) -> Tensor:
    """‖WᵀW − I‖_F."""
    defect: Tensor = orthogonality_defect(matrix) * len(matrix) ** 0.5
    return defect


def _is_nearest(orthogonal: Tensor, weight: Tensor) -> bool:
    """Whether W = QH with an orthogonal Q and a positive definite H: then Q is the nearest.

    Where W has no inverse to working precision, rounding has chosen a part of Q.
    """
    smallest = 10.0 * torch.finfo(weight.dtype).eps
    scaled = weight / weight.abs().max()
    # Singular values of 1 in root mean square, whatever the size.
    scaled *= len(weight) ** 0.5 / torch.linalg.matrix_norm(scaled)
    stretch = matmul(orthogonal.mT, scaled)
    symmetric = (stretch + stretch.mT) / 2
    symmetric.diagonal().sub_(smallest)
    failed = torch.linalg.cholesky_ex(symmetric).info
    return bool(_defect(orthogonal) < smallest**0.5) and not failed


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """By the names that the module has for them; float32 or float64."""
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"module is a {type(module).__name__}; allowed: an nn.Module")
    kinds = (InvertibleLinear, InvertibleConv2d)
    found: dict[str, Tensor] = {
        f"{name}.weight" if name else "weight": each.weight
        for name, each in module.named_modules()
        if isinstance(each, kinds)
    }
    if not found:
        raise ArgumentError(
            f"{type(module).__name__} has no invertible layer; allowed: a module with an"
            " InvertibleLinear or InvertibleConv2d in it"
        )
    for name, weight in found.items():
        check_dtype(weight.dtype, name)
    return found
