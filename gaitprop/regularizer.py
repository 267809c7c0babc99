"""Soft orthogonality: a penalty on WᵀW, whose columns w_i hold the weights that leave a unit.

``off_diagonal``, λ Σ_{i≠j} (w_i · w_j)², asks for orthogonal columns, not for unit ones: the
published penalty. The published code keeps the transpose (y = x W), and penalises the rows of that:
its recorded updates hold for the columns of W_l, and not for its rows. Ahmad, van Gerven and
Ambrogioni, NeurIPS 2020 (arXiv 2006.06438).

``full``, λ ‖WᵀW − I‖_F², asks for unit columns too: the follow-up's (arXiv 2102.11598).
"""

from __future__ import annotations

from torch import Tensor

from gaitprop.errors import ArgumentError
from gaitprop.linalg import add_matmul, gram, less_identity, matmul

PENALTIES = ("off_diagonal", "full")


def penalty(weight: Tensor, kind: str = "off_diagonal") -> Tensor:
    """What λ multiplies, of each matrix: (…, n, n) to (…)."""
    return penalised(weight, kind).square().sum((-2, -1))


def penalty_gradient(weight: Tensor, orthogonality: float, kind: str = "off_diagonal") -> Tensor:
    """∂/∂W of orthogonality · penalty, shaped like ``weight``.

    4λ W (G − diag G) with G = WᵀW, or 4λ W (G − I) of the full penalty.
    """
    return add_penalty_gradient(weight.new_zeros(weight.shape), weight, orthogonality, kind)


def add_penalty_gradient(
    gradient: Tensor, weight: Tensor, orthogonality: float, kind: str = "off_diagonal"
) -> Tensor:
    """Adds ``penalty_gradient`` to a gradient in place, without a tensor in between.

    Args:
        gradient: (…, n, n), contiguous; changed, and returned.
        weight: (…, n, n), with at most one leading dimension.
        orthogonality: λ.
        kind: one of ``PENALTIES``.
    """
    return add_matmul(gradient, weight, penalised(weight, kind), 4.0 * orthogonality)


def orthogonality_defect(weight: Tensor) -> Tensor:
    """‖WᵀW − I‖_F / √n of each matrix: (…, m, n) to (…); 0 exactly for orthogonal matrices.

    Unlike the published penalty it also sees columns that are not of unit length, as the theorem
    does. A matrix of fewer rows than columns is measured by its rows: ‖WWᵀ − I‖_F / √m.
    """
    if weight.shape[-2] < weight.shape[-1]:
        weight = weight.mT
    excess = less_identity(gram(weight) if is_square(weight) else matmul(weight.mT, weight))
    defect: Tensor = excess.flatten(-2).norm(dim=-1) / weight.shape[-1] ** 0.5
    return defect


def is_square(weight: Tensor) -> bool:
    """Whether a layer can be inverted, so that its orthogonality matters."""
    return weight.shape[-1] == weight.shape[-2]


def check_penalty(kind: str) -> None:
    """Raises ArgumentError unless there is such a penalty."""
    if kind not in PENALTIES:
        raise ArgumentError(f"penalty is {kind!r}; allowed: {', '.join(PENALTIES)}")


def penalised(weight: Tensor, kind: str) -> Tensor:
    """What of WᵀW should be 0: all but the diagonal, or the whole of WᵀW − I."""
    product = gram(weight)
    if kind == "full":
        return less_identity(product)
    product.diagonal(dim1=-2, dim2=-1).zero_()
    return product
