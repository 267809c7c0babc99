"""Soft orthogonality: λ Σ_{i≠j} (w_i · w_j)² over the columns w_i of each weight matrix.

A column of W_l holds the weights that go out from one unit. The published code keeps the transpose
(y = x W), and penalises the rows of that: its recorded updates hold for the columns of W_l, and not
for its rows. The penalty asks for orthogonal columns, not for unit ones. Ahmad, van Gerven and
Ambrogioni, NeurIPS 2020 (arXiv 2006.06438).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gaitprop.linalg import add_matmul, gram


def penalty(weight: Tensor) -> Tensor:
    """Σ_{i≠j} (w_i · w_j)² of each matrix: (…, n, n) to (…)."""
    return _off_diagonal_gram(weight).square().sum((-2, -1))


def penalty_gradient(weight: Tensor, orthogonality: float) -> Tensor:
    """∂/∂W of orthogonality · penalty: 4λ W (G − diag G) with G = WᵀW; shaped like ``weight``."""
    return add_penalty_gradient(torch.zeros_like(weight), weight, orthogonality)


def add_penalty_gradient(gradient: Tensor, weight: Tensor, orthogonality: float) -> Tensor:
    """Adds ``penalty_gradient`` to a gradient in place, without a tensor in between.

    Args:
        gradient: (…, n, n), contiguous; changed, and returned.
        weight: (…, n, n), with at most one leading dimension.
        orthogonality: λ.
    """
    return add_matmul(gradient, weight, _off_diagonal_gram(weight), 4.0 * orthogonality)


def orthogonality_defect(weight: Tensor) -> Tensor:
    """‖WᵀW − I‖_F / √n of each matrix: (…, n, n) to (…); 0 exactly for orthogonal matrices.

    Unlike the penalty it also sees columns that are not of unit length, as the theorem does.
    """
    product = gram(weight)
    product.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    defect: Tensor = product.flatten(-2).norm(dim=-1) / weight.shape[-1] ** 0.5
    return defect


def _off_diagonal_gram(weight: Tensor) -> Tensor:
    product = gram(weight)
    product.diagonal(dim1=-2, dim2=-1).zero_()
    return product
