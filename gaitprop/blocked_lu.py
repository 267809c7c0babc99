"""Solving by LU with partial pivoting, most of it products: for portable numerics, float32, CPU.

LAPACK's own is slow in MKL's mode ``COMPATIBLE``, and products by ``numerics.chained`` are not. So
the columns are halved again and again (S. Toledo, "Locality of reference in LU decomposition with
partial pivoting", SIAM J. Matrix Anal. Appl. 18, 1997) until a panel of at most ``PANEL`` columns
is left, which is LAPACK's. Pivots are chosen as LAPACK chooses them.

The solution of a triangular system is by blocks too. Those on the diagonal of the lower triangle
are inverted: by pivoting no element of them is above 1, and they are well-conditioned in practice.
Those of the upper triangle, which are as ill-conditioned as the matrix, are not.
"""

from __future__ import annotations

from array import array
from functools import cache

import torch
from torch import Tensor

from gaitprop import numerics

PANEL = 128
# 784 wide this took some 0.7 of LAPACK's time, 1024 wide 0.65, 704 wide 0.9; below 500, more.
_FROM = 768


def serves(matrix: Tensor) -> bool:
    """Whether a system is one for ``solve``; decided by the matrix's shape, dtype and device."""
    wide = matrix.shape[-1] >= _FROM and numerics.mode() == "portable"
    return wide and numerics.is_chained(matrix, matrix)


@torch.no_grad()
def solve(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The X with A X = B, and the pivots of A, by which to know whether it is singular.

    As for any product by ``chained``, there is no derivative.

    Args:
        matrix: A, (n, n), float32.
        right: B, (n, k), float32.

    Returns:
        X, (n, k), contiguous, without meaning where a pivot is 0; and the pivots, (n,).
    """
    n = len(matrix)
    if n <= PANEL:
        lu, order = _panel(matrix)
        lower = _solve_triangular(lu, right.index_select(0, order), unit_lower=True)
        return _solve_triangular(lu, lower), lu.diagonal()
    half = _half(n)
    left, order, inverses = _columns(matrix[:, :half])
    # The right sides are columns like those that are still to come.
    rest = matrix.new_empty(n, n - half + right.shape[1])
    torch.index_select(matrix[:, half:], 0, order, out=rest[:, : n - half])
    rest[:, n - half :] = right.index_select(0, order)
    below = _eliminate(left, inverses, rest)
    second, pivots = solve(below[:, : n - half], below[:, n - half :])
    first = rest[:half, n - half :].contiguous()
    first.sub_(_product(rest[:half, : n - half], second))
    _solve_upper(left[:half], inverses, first)
    return torch.cat([first, second]), torch.cat([left.diagonal(), pivots])


def _columns(matrix: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The LU decomposition of (m, n), m ≥ n.

    Returns:
        L below the diagonal and U from it on, (m, n), contiguous; the order of the rows of which
        it is the decomposition, (m,); and the inverses of the blocks on the diagonal of L.
    """
    n = matrix.shape[1]
    if n <= PANEL:
        factors, order = _panel(matrix)
        factors = factors.contiguous()
        inverse = _solve_triangular(factors[:n], _identity(n), unit_lower=True)
        return factors, order, [inverse]
    half = _half(n)
    left, order, inverses = _columns(matrix[:, :half])
    right = matrix[:, half:].index_select(0, order)
    last, then, more = _columns(_eliminate(left, inverses, right))
    lu = torch.empty_like(matrix, memory_format=torch.contiguous_format)
    lu[:half, :half] = left[:half]
    torch.index_select(left[half:], 0, then, out=lu[half:, :half])
    lu[:half, half:] = right[:half]
    lu[half:, half:] = last
    order[half:] = order[half:].index_select(0, then)
    return lu, order, inverses + more


def _panel(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """LAPACK's LU decomposition of (m, n), and the order of the rows, (m,)."""
    lu, pivots, _ = torch.linalg.lu_factor_ex(matrix)
    order = array("q", range(len(matrix)))
    for row, pivot in enumerate(pivots.tolist()):
        order[row], order[pivot - 1] = order[pivot - 1], order[row]
    return lu, torch.frombuffer(order, dtype=torch.int64)


def _eliminate(left: Tensor, inverses: list[Tensor], right: Tensor) -> Tensor:
    """Makes the first n rows of (m, k) those of U, given the n columns before; returns the rest."""
    start = 0
    for inverse in inverses:
        stop = start + len(inverse)
        rows = right[start:stop]
        if start:
            rows.sub_(_product(left[start:stop, :start], right[:start]))
        rows.copy_(_product(inverse, rows))
        start = stop
    return right[start:].sub_(_product(left[start:], right[:start]))


def _solve_upper(upper: Tensor, inverses: list[Tensor], right: Tensor) -> None:
    """U⁻¹ B in the place of B, (n, k), in blocks of the sizes of the inverses."""
    n = stop = len(right)
    for inverse in reversed(inverses):
        start = stop - len(inverse)
        rows = right[start:stop]
        if stop < n:
            rows.sub_(_product(upper[start:stop, stop:], right[stop:]))
        rows.copy_(_solve_triangular(upper[start:stop, start:stop], rows))
        stop = start


def _solve_triangular(matrix: Tensor, right: Tensor, unit_lower: bool = False) -> Tensor:
    # Asked for from the right, which in MKL is nearly twice as fast.
    solution: Tensor = torch.linalg.solve_triangular(
        matrix.mT, right.mT, upper=unit_lower, left=False, unitriangular=unit_lower
    )
    return solution.mT


def _product(left: Tensor, right: Tensor) -> Tensor:
    return numerics.chained(left, right) if numerics.is_chained(left, right) else left @ right


def _half(n: int) -> int:
    """Half of the columns, such that halving again and again ends with panels of one size."""
    panels = -(-n // PANEL)
    return n * (panels // 2) // panels


@cache
def _identity(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float32, device="cpu")
