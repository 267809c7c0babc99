"""Weights that stay orthogonal to rounding, whatever optimizes them; solves that rely on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gaitprop import (
    Architecture,
    ArgumentError,
    Convolution,
    Dense,
    InvertibleNetwork,
    SingularLayerError,
)
from gaitprop.constraints import (
    ORTHOGONAL,
    UNSEEN_ITERATIONS,
    orthogonalize,
    solve_orthogonal_rows,
)
from gaitprop.diagnostics import orthogonality_defects
from gaitprop.linalg import solve_rows
from gaitprop.regularizer import orthogonality_defect
from gaitprop.settings import OPTIMIZERS
from gaitprop.training import TrainingData, TrainingSettings, make_optimizer, train
from tests.gaitprop.oracles import DTYPES

ROUNDING = {torch.float64: 4e-15, torch.float32: 2e-6}
LAYERS = {
    "square": Architecture.of_widths((12, 12, 12, 12)),
    "rectangular": Architecture.of_widths((20, 12, 12, 6)),
    "convolution": Architecture(
        (1, 6, 6), (Convolution(1, 3, 1, 1), Convolution(3, 2, 2), Dense(9))
    ),
}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=source)


def rotations(seeds: int, n: int) -> torch.Tensor:
    return torch.linalg.qr(draw(seeds, n, n))[0].contiguous()


def clouds(inputs: int, dtype: torch.dtype = torch.float32) -> TrainingData:
    """Four Gaussian clouds."""
    centres, labels = draw(4, inputs, seed=1), torch.arange(140) % 4
    images = (centres[labels] + 0.3 * draw(140, inputs, seed=2)).to(dtype)
    return TrainingData(images[:120], labels[:120], images[120:], labels[120:], n_classes=4)


def trained(
    name: str, settings: TrainingSettings, dtype: torch.dtype = torch.float32
) -> InvertibleNetwork:
    network = InvertibleNetwork(LAYERS[name], seeds=(0, 7), dtype=dtype)
    data = clouds(network.widths[0], dtype)
    list(train(network, make_optimizer(network, settings), data, settings))
    return network


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-12, 1e-4, 0.02, 0.1])
@pytest.mark.parametrize("n", [1, 7, 64])
def test_the_nearest_orthogonal_matrix(n: int, size: float, dtype: torch.dtype) -> None:
    """The polar factor, by singular values: U Vᵀ of W = U Σ Vᵀ."""
    weights = (rotations(3, n) + size * draw(3, n, n, seed=1) / n**0.5).to(dtype)
    left, _, right = torch.linalg.svd(weights.double())
    received = orthogonalize(weights)
    assert received is weights
    torch.testing.assert_close(received.double(), left @ right, rtol=0, atol=ROUNDING[dtype])
    excess = received.mT @ received - torch.eye(n, dtype=dtype)
    assert float(excess.abs().max()) < ROUNDING[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_iterations_that_nobody_looks_at_lead_to_the_same_matrix(dtype: torch.dtype) -> None:
    """Of a defect as large as ½, which is more than a step of training leaves."""
    sizes = torch.tensor([0.0, 1e-3, 0.1])[:, None, None]
    weights = rotations(3, 16) + sizes * draw(3, 16, 16, seed=1) / 4
    weights[2] *= 1.22
    weights = weights.to(dtype)
    expected = orthogonalize(weights.clone())
    received = orthogonalize(weights, UNSEEN_ITERATIONS)
    assert received is weights
    torch.testing.assert_close(received, expected, rtol=0, atol=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.74, 1.9, 2.2, 30.0])
def test_nothing_is_turned_round_when_nobody_looks(scale: float, dtype: torch.dtype) -> None:
    """Far from orthogonal it may take more than UNSEEN_ITERATIONS, but goes to the nearest."""
    weights = rotations(2, 16)
    weights[0] *= scale
    weights[1, 3] *= scale
    weights = weights.to(dtype)
    expected = orthogonalize(weights.clone())
    received = orthogonalize(weights, 5 * UNSEEN_ITERATIONS)
    torch.testing.assert_close(received, expected, rtol=0, atol=30 * ROUNDING[dtype])


def test_seeds_go_on_alone() -> None:
    """One that needs more iterations changes nothing for the others."""
    sizes = torch.tensor([1e-9, 0.1, 1e-4])[:, None, None]
    weights = (rotations(3, 16) + sizes * draw(3, 16, 16, seed=1)).float()
    together = orthogonalize(weights.clone())
    for index in range(3):
        assert torch.equal(together[index], orthogonalize(weights[index].clone()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-3, 1.7, 1.74, 1.9, 2.0, 2.2, 2.23, 2.3, 30.0, 1e9])
def test_far_from_orthogonal_it_is_the_nearest_still(scale: float, dtype: torch.dtype) -> None:
    """Newton and Schulz's iteration by itself turns singular values from √3 to √5 round."""
    weights = rotations(3, 16)
    weights[0] *= scale
    weights[1, 3] *= scale
    weights[2] = weights[2] + 0.3 * scale * draw(16, 16, seed=1)
    left, sizes, right = torch.linalg.svd(weights)
    received = orthogonalize(weights.to(dtype)).double()
    # The polar factor moves by as much as the matrix, over its smallest singular value.
    rounding = ROUNDING[dtype] * (1.0 + 4.0 * sizes[:, 0] / sizes[:, -1])[:, None, None]
    assert ((received - left @ right).abs() < rounding).all()


def test_what_is_not_finite_ends_too() -> None:
    assert orthogonalize(torch.full((2, 3, 3), torch.nan)).isnan().all()
    assert orthogonality_defect(orthogonalize(1e30 * torch.eye(3))) > ORTHOGONAL


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seeds", [0, 3])
def test_orthogonal_solves_are_solves(
    seeds: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of weights that are a hundred roundings away from orthogonal; by no LU decomposition."""
    monkeypatch.setattr("gaitprop.constraints.solve_rows", None)
    n, u = 40, torch.finfo(dtype).eps
    weight = (rotations(3, n) + 100 * u * draw(3, n, n, seed=1)).to(dtype)
    rows = draw(3, 9, n, seed=2).to(dtype)
    if not seeds:
        weight, rows = weight[0], rows[0]
    exact = rows.double() @ torch.linalg.inv(weight.double()).mT
    received = solve_orthogonal_rows(weight, rows)
    assert received.is_contiguous()
    assert float((received.double() - exact).norm() / exact.norm()) < 10 * u


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_product_with_the_transpose_would_not_do(dtype: torch.dtype) -> None:
    n, u = 40, torch.finfo(dtype).eps
    weight = (rotations(1, n) + u**0.6 * draw(1, n, n, seed=1) / n).to(dtype)
    rows = draw(1, 9, n, seed=2).to(dtype)
    exact = rows.double() @ torch.linalg.inv(weight.double()).mT
    assert float((rows @ weight - exact).norm() / exact.norm()) > 20 * u
    received = solve_orthogonal_rows(weight, rows).double()
    assert float((received - exact).norm() / exact.norm()) < 10 * u


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_seed_that_is_not_orthogonal_is_solved_by_lu(dtype: torch.dtype) -> None:
    weight, rows = rotations(3, 10).to(dtype), draw(3, 5, 10, seed=2).to(dtype)
    weight[1] += 0.3 * draw(10, 10, seed=3).to(dtype)
    received = solve_orthogonal_rows(weight, rows)
    assert torch.equal(received[1], solve_rows(weight[[1]], rows[[1]])[0])
    others = solve_orthogonal_rows(weight[::2].contiguous(), rows[::2].contiguous())
    torch.testing.assert_close(received[::2], others, rtol=1e-6, atol=1e-6)
    alone = solve_orthogonal_rows(weight[1], rows[1])
    torch.testing.assert_close(alone, received[1])
    weight[1] = 0.0
    with pytest.raises(SingularLayerError, match="10 x 10"):
        solve_orthogonal_rows(weight, rows)


SETTINGS = TrainingSettings(
    rule="gait", learning_rate=0.01, epochs=3, batch_size=20, constraint="orthogonal"
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", LAYERS)
def test_weights_are_orthogonal_after_optimisation(
    name: str, optimizer: str, dtype: torch.dtype
) -> None:
    settings = replace(SETTINGS, optimizer=optimizer, momentum=0.9, weight_decay=0.01)
    network = trained(name, settings, dtype)
    start = InvertibleNetwork(LAYERS[name], seeds=(0, 7), dtype=dtype)
    free = trained(name, replace(settings, constraint="none"), dtype)
    for layer in range(network.depth):
        weight, first = network.weights[layer], start.weights[layer]
        assert weight.is_contiguous()
        assert float((weight - first).norm(dim=(-2, -1)).min()) > 1e-3
        if weight.shape[-1] == weight.shape[-2]:
            excess = weight.mT @ weight - torch.eye(weight.shape[-1], dtype=dtype)
            assert float(excess.abs().max()) < ROUNDING[dtype]
    assert float(orthogonality_defects(free)[:, -1].min()) > 1e-4


@pytest.mark.parametrize("name", LAYERS)
def test_gait_prop_stays_backpropagation_throughout(name: str) -> None:
    """Two whole trainings, one by each rule; without the constraint they part."""
    settings = replace(SETTINGS, gamma=0.0)
    gait, bp = (trained(name, replace(settings, rule=r), torch.float64) for r in ("gait", "bp"))
    for ours, theirs in zip(gait.parameters(), bp.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    settings = replace(settings, constraint="none", orthogonality=0.0)
    gait, bp = (trained(name, replace(settings, rule=r), torch.float64) for r in ("gait", "bp"))
    assert float((gait.weights[0] - bp.weights[0]).abs().max()) > 1e-4


def test_orthogonal_weights_have_no_penalty() -> None:
    one, other = (trained("square", replace(SETTINGS, orthogonality=x)) for x in (0.0, 5.0))
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_that_are_not_orthogonal_are_refused() -> None:
    network = InvertibleNetwork((8, 8, 8), orthogonal=False)
    with pytest.raises(ArgumentError, match=r"constraint is 'orthogonal', but layer 1 .* allowed"):
        next(train(network, make_optimizer(network, SETTINGS), clouds(8), SETTINGS))
