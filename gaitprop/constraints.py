"""Weights that are kept orthogonal, and what that saves: where W is orthogonal, W⁻¹ is Wᵀ.

After every step of the optimizer the weights go back to the nearest orthogonal matrix, the polar
factor of W, by Newton and Schulz's iteration (Higham, *Functions of Matrices*, ch. 8):

    W ← W − ½ W E,  E = WᵀW − I,  which leaves E ← −¾ E² + ¼ E³.

It needs products alone: after a usual step two iterations of a Gram matrix and a product. It leads
to the nearest matrix from singular values below √3, and from those between √3 and √5 to one with a
direction turned round. A weight that may have such is made smaller first: of all its multiples the
nearest orthogonal matrix is the same. A rectangular first layer is left as it is: it is never
inverted, so GAIT-prop is backpropagation whatever its matrix.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from gaitprop.errors import ArgumentError, SingularLayerError
from gaitprop.linalg import add_matmul, gram, less_identity, matmul, solve_rows
from gaitprop.surroundings import undisturbed

_Size = TypeVar("_Size", float, Tensor)

CONSTRAINTS = ("none", "orthogonal")

MOST_ITERATIONS = 100
"""A singular value grows by a half in each: enough for any that is not 0 to rounding."""

UNSEEN_ITERATIONS = 6
"""After a step on a GPU: a defect of ½ in any direction becomes one of rounding in five."""

SAFE = 2.0
"""Below this ‖WᵀW − I‖_F every singular value of W is below √3."""

ORTHOGONAL = 0.1
"""A matrix with a larger ‖WᵀW − I‖_F / √n is not one that a training left orthogonal."""


def check_constraint(name: str) -> None:
    """Raises ArgumentError unless there is such a constraint."""
    if name not in CONSTRAINTS:
        raise ArgumentError(f"constraint is {name!r}; allowed: {', '.join(CONSTRAINTS)}")


@undisturbed
def orthogonalize(weight: Tensor, iterations: int | None = None) -> Tensor:
    """Makes each matrix orthogonal to rounding, in place; the nearest such matrix.

    A matrix goes on alone, so that seeds get what they get by themselves. Unless the number of
    iterations is given, the host looks at each of them, which a GPU waits for.

    Args:
        weight: (…, n, n), contiguous, of full rank; changed. A matrix that has no inverse, or is
            not finite, is left not orthogonal.
        iterations: how many are done, without a look by the host; None: as many as are needed.

    Returns:
        ``weight``.
    """
    n = weight.shape[-1]
    if iterations is not None:
        together = weight.view(-1, n, n)
        size = _excess(together).norm(dim=(-2, -1), keepdim=True)
        together.mul_(torch.where(size < SAFE, 1.0, _squared_scale(size).sqrt()))
        for _ in range(iterations):
            add_matmul(together, together.clone(), _excess(together), -0.5)
        return weight
    for matrix in weight.view(-1, n, n):
        for iteration in range(MOST_ITERATIONS):
            excess = _excess(matrix)
            size = float(excess.norm())
            if iteration == 0 and size >= SAFE:
                # A tensor's root would be MKL's, which rounds otherwise on another make.
                matrix.mul_(math.sqrt(_squared_scale(size)))
                continue
            # The update reads the matrix while it writes it, so it reads a copy.
            add_matmul(matrix, matrix.clone(), excess, -0.5)
            # This step has left a defect of ¾ size² at most. What a product of rows of length 1
            # rounds is of the size of the unit roundoff, and the matrix of them n times as large.
            if not size * size > n * torch.finfo(weight.dtype).eps:
                break
    return weight


def _excess(weight: Tensor) -> Tensor:
    """WᵀW − I."""
    return less_identity(gram(weight))


def _squared_scale(size: _Size) -> _Size:
    """The square of the factor that brings all singular values of W below √3.

    ``size`` is ‖WᵀW − I‖_F: no squared singular value is above 1 + size.
    """
    return 0.99 * (1.0 + SAFE) / (1.0 + size)


def solve_orthogonal_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """W⁻¹ applied to each row vector, as ``solve_rows``, where W is orthogonal but for rounding.

    Wᵀ applied, and once more to what is left: x = r W, then x + (r − x Wᵀ) W. With E = WᵀW − I that
    is off by E² x, so by nothing where E is of the size of rounding: three small products, no LU.
    On the CPU a matrix of which more is left than the root of the unit roundoff is solved by LU
    after all; a GPU would wait for the check.

    Args:
        weight: (…, n, n).
        rows: (…, batch, n), with the same leading dimensions, at most one.

    Returns:
        (…, batch, n), contiguous.

    Raises:
        SingularLayerError: a matrix is not orthogonal at all, but singular.
    """
    solution = matmul(rows, weight)
    left = rows - matmul(solution, weight.mT)
    add_matmul(solution, left, weight, 1.0)
    if not weight.is_cpu:
        return solution
    limit = torch.finfo(rows.dtype).eps ** 0.5
    far = ~(left.flatten(-2).norm(dim=-1) <= limit * rows.flatten(-2).norm(dim=-1))
    if far.any():
        try:
            solution[far] = solve_rows(weight[far], rows[far])
        except SingularLayerError as error:
            # It counts those that are far, of which a single matrix is one.
            several = weight.dim() == 3 and error.index is not None
            index = int(far.nonzero()[error.index, 0]) if several else None
            raise SingularLayerError(error.reason, index) from None
    return solution
