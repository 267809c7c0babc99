"""The soft orthogonality penalty: literal loops, autograd, and what it asks for."""

from __future__ import annotations

import pytest
import torch

from gaitprop import layer_gradients
from gaitprop.diagnostics import orthogonality_defects
from gaitprop.linalg import gram
from gaitprop.network import InvertibleNetwork
from gaitprop.regularizer import PENALTIES, orthogonality_defect, penalty, penalty_gradient
from tests.gaitprop.oracles import random_case, relative


def _draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


def test_penalty_is_the_double_loop_over_columns() -> None:
    weight = _draw(6, 6)
    expected = 0.0
    for i in range(6):
        for j in range(6):
            if i != j:
                expected += float(weight[:, i] @ weight[:, j]) ** 2
    assert float(penalty(weight)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("n", [1, 5, 511, 512, 515])
def test_gradient_is_autograds(n: int, kind: str) -> None:
    """Of plain products: widths from 512 on take the library's blocked path."""
    weight = (_draw(n, n) / n**0.5).requires_grad_()
    product = weight.T @ weight
    whole = ((product - torch.eye(n)) ** 2).sum()
    off_diagonal = (product**2).sum() - (product.diagonal() ** 2).sum()
    expected = whole if kind == "full" else off_diagonal
    torch.testing.assert_close(penalty(weight.detach(), kind), expected.detach())
    (0.7 * expected).backward()
    received = penalty_gradient(weight.detach(), 0.7, kind)
    torch.testing.assert_close(received, weight.grad, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n", [7, 512, 514])
def test_gram_with_seeds(n: int) -> None:
    weights = _draw(2, n, n)
    for weight, product in zip(weights, gram(weights), strict=True):
        torch.testing.assert_close(product, weight.T @ weight, rtol=1e-12, atol=1e-11)


def test_the_regularizer_adds_to_every_layer_once() -> None:
    case = random_case((7, 7, 5, 4), 0.1)
    for rule in ("bp", "gait", "itp", "tp"):
        plain, with_it = case.gradients(rule), case.gradients(rule, orthogonality=0.4)
        for weight, without, received in zip(case.weights, plain, with_it, strict=True):
            expected = without[0] + penalty_gradient(torch.tensor(weight), 0.4).numpy()
            assert relative(received[0], expected) < 1e-14
            assert (received[1] == without[1]).all()


def test_orthogonal_columns_need_no_unit_length() -> None:
    """Zero penalty and gradient, but the defect, which the theorem depends on, sees the length."""
    rotation = torch.linalg.qr(_draw(6, 6))[0]
    stretched = rotation * torch.tensor([1.0, 2, 3, 4, 5, 6], dtype=torch.float64)
    assert float(penalty(stretched)) < 1e-24
    assert float(penalty_gradient(stretched, 1.0).abs().max()) < 1e-10
    assert float(penalty(stretched.T)) > 1.0
    assert float(orthogonality_defect(rotation)) < 1e-15
    squares = torch.arange(1.0, 7.0, dtype=torch.float64) ** 2
    expected = float(((squares - 1) ** 2).sum() / 6) ** 0.5
    assert float(orthogonality_defect(stretched)) == pytest.approx(expected, rel=1e-13)


def test_a_step_against_the_gradient_makes_columns_more_orthogonal() -> None:
    weight = _draw(8, 8) / 8**0.5
    start = float(penalty(weight))
    for _ in range(200):
        weight = weight - 0.02 * penalty_gradient(weight, 1.0)
    assert float(penalty(weight)) < 1e-3 * start


def test_the_full_penalty_asks_for_unit_length() -> None:
    rotation = torch.linalg.qr(_draw(6, 6))[0]
    assert float(penalty(rotation, "full")) < 1e-28
    assert float(penalty(2 * rotation, "full")) == pytest.approx(6 * 9, rel=1e-13)


@pytest.mark.parametrize("kind", PENALTIES)
def test_each_penalty_reaches_the_gradients(kind: str) -> None:
    """Of every layer but a rectangular first one."""
    network = InvertibleNetwork((9, 7, 7, 4), orthogonal=False, dtype=torch.float64)
    batch = _draw(5, 9), torch.tensor([0, 1, 2, 0, 1]), 3
    plain = layer_gradients(network, *batch)
    received = layer_gradients(network, *batch, orthogonality=0.4, penalty=kind)
    assert torch.equal(received[0].weight, plain[0].weight)
    for layer in (1, 2):
        expected = plain[layer].weight + penalty_gradient(network.weights[layer], 0.4, kind)
        torch.testing.assert_close(received[layer].weight, expected, rtol=1e-13, atol=1e-14)


def test_a_rectangle_is_measured_by_its_shorter_side() -> None:
    rows = torch.linalg.qr(_draw(9, 4))[0].mT
    for weight in (rows, rows.mT):
        assert float(orthogonality_defect(weight)) < 1e-15
        assert float(orthogonality_defect(2 * weight)) == pytest.approx(3.0, rel=1e-13)


def test_defects_of_a_network() -> None:
    network = InvertibleNetwork((8, 8, 5), orthogonal=False, seeds=(0, 1, 2), dtype=torch.float64)
    defects = orthogonality_defects(network)
    assert defects.shape == (3, 2)
    assert network.weights[1].shape == (3, 5, 5)
    for layer, n in enumerate((8, 5)):
        for seed in range(3):
            weight = network.weights[layer][seed]
            expected = (weight.T @ weight - torch.eye(n)).norm() / n**0.5
            torch.testing.assert_close(defects[seed, layer], expected)
