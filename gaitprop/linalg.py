"""Products with matrices and with their inverses: all the heavy arithmetic of the library is here.

The inverse itself is never formed: its products are found by solving.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from gaitprop import blocked_lu, numerics
from gaitprop.errors import SingularLayerError

# From this width on the blocks of a symmetric product are large enough to be worth it.
GRAM_IN_BLOCKS = 512
GRAM_BLOCKS = 4

# Up to this width a decomposition gains nothing from a second CPU thread, and several are one call.
_ONE_THREAD = 256

# On a GPU: from this width on PyTorch's own LU of several matrices is slower, and stalls the host.
_STREAMS_FROM = 513
_STREAMS = 8


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """A product of matrices: (…, m, k) by (…, k, n) to (…, m, n), of one dtype.

    There is at most one leading dimension, the same of both.
    """
    if not numerics.is_chained(left, right):
        # What ``@`` comes to, after a look at shapes that takes as long as a small product.
        return torch.mm(left, right) if left.dim() == 2 else torch.bmm(left, right)
    if left.dim() == 2:
        return numerics.chained(left, right)
    return torch.stack([numerics.chained(*pair) for pair in zip(left, right, strict=True)])


def add_matmul(total: Tensor, left: Tensor, right: Tensor, scale: float) -> Tensor:
    """Adds ``scale`` times a product to a tensor in place, and returns it.

    Args:
        total: (…, m, n), contiguous, with at most one leading dimension; changed.
        left: (…, m, k).
        right: (…, k, n).
        scale: a factor.
    """
    if numerics.is_chained(left, right):
        return total.add_(matmul(left, right), alpha=scale)
    add = total.addmm_ if total.dim() == 2 else total.baddbmm_
    return add(left, right, alpha=scale)


def affine(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b for each row x: (…, batch, n), (…, m, n), (…, m) to (…, batch, m).

    All have the same leading dimensions, at most one.
    """
    if numerics.is_chained(inputs, weight.mT):
        return matmul(inputs, weight.mT).add_(bias.unsqueeze(-2))
    if weight.dim() == 3:
        return torch.baddbmm(bias.unsqueeze(-2), inputs, weight.mT)
    return torch.addmm(bias, inputs, weight.mT)


def solve_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """W⁻¹ applied to each row vector: the X with X Wᵀ = rows.

    With several CPU threads wide matrices are solved one by one: PyTorch's batched LU, run by
    several threads on top of MKL, returns wrong pivots or never ends for matrices of about 200 and
    more (torch 2.13.0). Small ones are solved together, by one thread. Wide ones are solved one by
    one in portable mode too. Each seed gets exactly the bits that it gets alone, either way. Wide
    ones on a GPU are solved side by side, which PyTorch's LU of several would not do.

    Args:
        weight: (…, n, n).
        rows: (…, batch, n), with the same leading dimensions.

    Returns:
        (…, batch, n), contiguous.

    Raises:
        SingularLayerError: a matrix is singular to working precision: the smallest pivot of its LU
            decomposition is no larger than the rounding error of its largest (CPU only: on a GPU
            the check would stall the device; the result then holds inf or NaN, which the training
            loop reports).
    """
    if weight.is_cpu and weight.shape[-1] <= _ONE_THREAD:
        with numerics.one_thread():
            return _solve(weight, rows).contiguous()
    if _is_for_streams(weight, rows):
        return _solve_in_streams(weight, rows)
    together = torch.get_num_threads() == 1 and not blocked_lu.serves(weight)
    if not weight.is_cpu or weight.dim() == 2 or together:
        return _solve(weight, rows).contiguous()
    n, batch = rows.shape[-1], rows.shape[-2]
    solution = torch.empty_like(rows, memory_format=torch.contiguous_format)
    each = zip(
        weight.reshape(-1, n, n),
        rows.reshape(-1, batch, n),
        solution.view(-1, batch, n),
        strict=True,
    )
    for index, (matrix, row, out) in enumerate(each):
        out.copy_(_solve(matrix, row, index))
    return solution


def gram(weight: Tensor) -> Tensor:
    """Wᵀ W, (…, n, n) to (…, n, n).

    The product is symmetric: for matrices large enough to pay for it, the blocks below the
    diagonal are copied instead of computed.
    """
    n = weight.shape[-1]
    if n < GRAM_IN_BLOCKS or not weight.is_cpu:
        return matmul(weight.mT, weight)
    product = torch.empty_like(weight, memory_format=torch.contiguous_format)
    block = -(-n // GRAM_BLOCKS)
    for matrix, out in zip(weight.reshape(-1, n, n), product.view(-1, n, n), strict=True):
        for start in range(0, n, block):
            rows, below = slice(start, start + block), slice(start + block, n)
            pair = matrix[:, rows].mT, matrix[:, start:]
            if numerics.is_chained(*pair):
                out[rows, start:] = numerics.chained(*pair)
            else:
                torch.mm(*pair, out=out[rows, start:])
            out[below, rows] = out[rows, below].mT
    return product


def less_identity(product: Tensor) -> Tensor:
    """A − I in the place of A, (…, n, n)."""
    product.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    return product


def _solve(weight: Tensor, rows: Tensor, index: int | None = None) -> Tensor:
    if blocked_lu.serves(weight):
        columns, pivots = blocked_lu.solve(weight, rows.mT)
        _refuse_singular(pivots, index)
        return columns.mT
    # The transpose is column-major where W is row-major, as LAPACK wants it: nothing is copied.
    lu, pivots, _ = torch.linalg.lu_factor_ex(weight.mT)
    if weight.is_cpu:
        _refuse_singular(lu.diagonal(dim1=-2, dim2=-1), index)
    # X Wᵀ = rows is W Xᵀ = rowsᵀ; asked for as it stands, PyTorch would copy the factors first.
    solution: Tensor = torch.linalg.lu_solve(lu, pivots, rows.mT, adjoint=True).mT
    return solution


def _is_for_streams(weight: Tensor, rows: Tensor) -> bool:
    several = weight.is_cuda and weight.dim() == 3 and len(weight) > 1
    # What is written into in place has no derivative.
    differentiated = torch.is_grad_enabled() and (weight.requires_grad or rows.requires_grad)
    return several and weight.shape[-1] >= _STREAMS_FROM and not differentiated


def _solve_in_streams(weight: Tensor, rows: Tensor) -> Tensor:
    """One decomposition leaves most of a GPU idle: several run at once, each in a stream."""
    solution = torch.empty_like(rows, memory_format=torch.contiguous_format)
    caller = torch.cuda.current_stream(weight.device)
    streams = _streams(weight.device)[: len(weight)]
    for stream in streams:
        stream.wait_stream(caller)
    try:
        for index, (matrix, row, out) in enumerate(zip(weight, rows, solution, strict=True)):
            with torch.cuda.stream(streams[index % len(streams)]):
                out.copy_(_solve(matrix, row))
    finally:
        # Also after an error: the memory of all of them may be another's from here on.
        for stream in streams:
            caller.wait_stream(stream)
    return solution


@cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    return [torch.cuda.Stream(device) for _ in range(_STREAMS)]  # type: ignore[no-untyped-call]


def _refuse_singular(pivots: Tensor, index: int | None) -> None:
    smallest, largest = torch.aminmax(pivots.abs(), dim=-1)
    # An exactly singular matrix has a pivot of 0.
    singular = smallest <= largest * torch.finfo(pivots.dtype).eps
    if not singular.any():
        return
    n = pivots.shape[-1]
    if pivots.dim() == 2:
        index = int(singular.nonzero()[0])
    least, most = (float(each[singular].flatten()[0]) for each in (smallest, largest))
    raise SingularLayerError(
        f"a {n} x {n} weight matrix is singular to working precision (pivots from"
        f" {least:.3g} to {most:.3g}): the layer has no inverse; weights have one that are kept"
        " near orthogonal, by a regularizer or a constraint, and learn at a rate by which they do"
        " not diverge",
        index,
    )
