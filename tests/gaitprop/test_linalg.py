"""Solving wide float32 systems in portable mode, against LAPACK in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gaitprop import blocked_lu, numerics
from gaitprop.errors import SingularLayerError
from gaitprop.linalg import solve_rows

EPS = torch.finfo(torch.float32).eps
N = 768  # Six panels, of 128 columns.


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def orthogonal(n: int) -> Tensor:
    return torch.linalg.qr(drawn(n, n))[0].contiguous()


def ill_conditioned(n: int) -> Tensor:
    values = torch.logspace(0, -5, n)
    return orthogonal(n) * values @ orthogonal(n).mT


def permutation(n: int) -> Tensor:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    return torch.eye(n)[order].contiguous()


def small_pivots(n: int) -> Tensor:
    """Without pivoting all digits would be lost in the first column."""
    matrix = drawn(n, n)
    matrix.diagonal().mul_(1e-7)
    return matrix


def badly_scaled(n: int) -> Tensor:
    return drawn(n, n) * torch.logspace(0, -5, n)


def residual(weight: Tensor, solution: Tensor, rows: Tensor) -> float:
    """Of each row as a share of |W| |x| + |b| (the normwise backward error): the largest."""
    error = solution.double() @ weight.double().mT - rows.double()
    size = weight.double().norm() * solution.double().norm(dim=1) + rows.double().norm(dim=1)
    return float((error.norm(dim=1) / size).max())


MATRICES = [drawn, orthogonal, ill_conditioned, permutation, small_pivots, badly_scaled]


@pytest.mark.parametrize("batch", [1, 60])
@pytest.mark.parametrize("make", MATRICES)
def test_the_residual_is_lapacks(make, batch):
    weight = make(N, N) if make is drawn else make(N)
    # Sides of which the solution is of size 1: the hard ones for an ill-conditioned matrix.
    for rows in (drawn(batch, N), drawn(batch, N) @ weight.mT):
        lapack = torch.linalg.solve(weight, rows.mT).mT
        ours = solve_rows(weight, rows)
        assert residual(weight, ours, rows) <= 4 * residual(weight, lapack, rows) + EPS / 100


@pytest.mark.parametrize("n", [768, 784, 1000])
def test_the_solution_is_that_of_float64(n):
    weight, rows = orthogonal(n) + drawn(n, n) / (4 * n**0.5), drawn(60, n)
    exact = torch.linalg.solve(weight.double(), rows.double().mT).mT
    solution = solve_rows(weight, rows)
    assert blocked_lu.serves(weight)
    assert solution.is_contiguous()
    lapack = torch.linalg.solve(weight, rows.mT).mT
    assert not torch.equal(solution, lapack)
    assert (solution - exact).norm() < 3 * (lapack - exact).norm()


def test_a_permutation_is_undone_exactly():
    weight, rows = permutation(N), drawn(3, N)
    assert torch.equal(solve_rows(weight, rows), rows @ weight)


def test_pivots_are_lapacks():
    weight = drawn(N, N)
    _, pivots = blocked_lu.solve(weight, drawn(N, 2))
    lapack = torch.linalg.lu_factor(weight.double())[0].diagonal()
    assert torch.allclose(pivots.double(), lapack, rtol=1e-2, atol=1e-3)


def test_seeds_threads_and_layout_change_no_bit(monkeypatch):
    weights, rows = drawn(2, N, N), drawn(2, 9, N)
    expected = [solve_rows(*pair) for pair in zip(weights, rows, strict=True)]
    for threads in (1, 2, 3):
        monkeypatch.setattr(numerics, "_threads", threads)
        assert torch.equal(solve_rows(weights, rows), torch.stack(expected))
        assert torch.equal(solve_rows(weights[0].mT.contiguous().mT, rows[0]), expected[0])
        assert torch.equal(solve_rows(weights[0], rows[0].mT.contiguous().mT), expected[0])


def test_nothing_given_is_changed():
    weight, rows = drawn(N, N), drawn(4, N)
    before = weight.clone(), rows.clone()
    solve_rows(weight, rows)
    assert torch.equal(weight, before[0])
    assert torch.equal(rows, before[1])


@pytest.mark.parametrize("column", [0, 100, 400, N - 1])
def test_a_singular_matrix_is_refused(column):
    good, bad = orthogonal(N), orthogonal(N)
    bad[:, column] = 0
    told = f"a {N} x {N} weight matrix is singular .*pivots from .* to "
    with pytest.raises(SingularLayerError, match=told):
        solve_rows(bad, drawn(2, N))
    with pytest.raises(SingularLayerError, match=r"matrix 1: a .* is singular"):
        solve_rows(torch.stack([good, bad]), drawn(2, 2, N))


def test_equal_rows_are_singular():
    weight = orthogonal(N)
    weight[500] = weight[3]
    with pytest.raises(SingularLayerError, match="is singular"):
        solve_rows(weight, drawn(2, N))


def test_narrow_and_double_matrices_are_lapacks():
    for weight in (drawn(767, 767), drawn(N, N).double()):
        rows = drawn(3, len(weight)).to(weight.dtype)
        lu, pivots, _ = torch.linalg.lu_factor_ex(weight.mT)
        expected = torch.linalg.lu_solve(lu, pivots, rows.mT, adjoint=True).mT
        assert torch.equal(solve_rows(weight, rows), expected)


class Counting(TorchDispatchMode):
    """Counts the decompositions."""

    found = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.found += function is torch.ops.aten.linalg_lu_factor_ex.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("n", [3, 64, 256])
def test_small_matrices_are_solved_in_one_call_whatever_the_threads(n):
    weights, rows = torch.stack([orthogonal(n)] * 5) + drawn(5, n, n) / (4 * n**0.5), drawn(5, 7, n)
    alone = torch.stack([solve_rows(*pair) for pair in zip(weights, rows, strict=True)])
    exact = torch.linalg.solve(weights.double(), rows.double().mT).mT
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Counting() as counting:
            together = solve_rows(weights, rows)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert counting.found == 1
    assert torch.equal(together, alone)
    assert (together - exact).norm() < 1e-4 * exact.norm()
