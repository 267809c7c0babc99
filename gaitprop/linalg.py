"""Products with the inverse of a weight matrix, by solving: the inverse itself is never formed."""

from __future__ import annotations

import torch
from torch import Tensor

from gaitprop.errors import SingularLayerError


def solve_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """W⁻¹ applied to each row vector: the X with X Wᵀ = rows.

    On the CPU the matrices are solved one by one. PyTorch's batched LU, run by several threads on
    top of MKL, returns wrong pivots or never ends for matrices of about 200 and more (torch
    2.13.0), and one by one also gives each seed exactly the bits that it gets alone.

    Args:
        weight: (…, n, n).
        rows: (…, batch, n), with the same leading dimensions.

    Returns:
        (…, batch, n), contiguous.

    Raises:
        SingularLayerError: a matrix is singular (CPU only: on a GPU the check would stall the
            device; the result then holds inf or NaN, which the training loop reports).
    """
    if weight.is_cuda:
        unchecked: Tensor = torch.linalg.solve_ex(weight.mT, rows, left=False)[0]
        return unchecked.contiguous()
    solution = torch.empty_like(rows)
    n = weight.shape[-1]
    matrices = zip(
        weight.reshape(-1, n, n),
        rows.reshape(-1, rows.shape[-2], n),
        solution.view(-1, rows.shape[-2], n),
        strict=True,
    )
    for index, (matrix, row, out) in enumerate(matrices):
        try:
            out.copy_(torch.linalg.solve(matrix.mT, row, left=False))
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            where = f" (seed {index} of the {weight.shape[0]})" if weight.dim() == 3 else ""
            raise SingularLayerError(
                f"a {n} x {n} weight matrix{where} is singular: the layer has no inverse"
            ) from None
    return solution


def gram(weight: Tensor) -> Tensor:
    """Wᵀ W, (…, n, n) to (…, n, n).

    The product is symmetric: for matrices large enough to pay for it, one of the four blocks is
    copied instead of computed.
    """
    n = weight.shape[-1]
    if n < 256 or weight.is_cuda:
        return weight.mT @ weight
    half = n // 2
    left, right = weight[..., :half], weight[..., half:]
    product = weight.new_empty(weight.shape)
    product[..., :half, :half] = left.mT @ left
    product[..., half:, half:] = right.mT @ right
    product[..., half:, :half] = right.mT @ left
    product[..., :half, half:] = product[..., half:, :half].mT
    return product
