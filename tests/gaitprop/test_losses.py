"""Losses, their errors and hits, against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gaitprop import ArgumentError, layer_gradients
from gaitprop.losses import LOSSES, check_targets, find_loss, hits
from tests.gaitprop import plain
from tests.gaitprop.plain import ARCHITECTURES, Batch, a_batch, a_network

LABELS = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]])


def outputs() -> Tensor:
    source = torch.Generator().manual_seed(1)
    return 3 * torch.randn(2, 4, 5, dtype=torch.float64, generator=source)


def soft() -> Tensor:
    source = torch.Generator().manual_seed(2)
    return torch.rand(2, 4, 3, dtype=torch.float64, generator=source)


def by_pytorch(loss: str, values: Tensor, targets: Tensor) -> Tensor:
    """(S,), summed over the batch."""
    values = values[..., :3]
    dense = targets if targets.is_floating_point() else functional.one_hot(targets, 3).double()
    if loss == "squared_error":
        return (values - dense).square().sum((1, 2)) / 2
    whole = functional.cross_entropy(values.flatten(0, 1), dense.flatten(0, 1), reduction="none")
    return whole.view(2, 4).sum(1)


@pytest.mark.parametrize("targets", [LABELS, soft()])
@pytest.mark.parametrize("loss", LOSSES)
def test_error_and_total_are_pytorchs(loss: str, targets: Tensor) -> None:
    values = outputs().requires_grad_()
    expected = by_pytorch(loss, values, targets)
    (gradient,) = torch.autograd.grad(expected.sum(), values)
    with torch.no_grad():
        error = LOSSES[loss].error(values, targets, 3)
        total = LOSSES[loss].total(values, targets, 3, error)
    torch.testing.assert_close(error, gradient, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(total, expected.detach(), rtol=1e-13, atol=0)
    assert not error[..., 3:].any()


@pytest.mark.parametrize("targets", [LABELS, soft()])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_gain_multiplies_the_outputs_that_are_compared(loss: str, targets: Tensor) -> None:
    values = outputs().requires_grad_()
    expected = by_pytorch(loss, 7 * values, targets)
    (gradient,) = torch.autograd.grad(expected.sum(), values)
    gained = find_loss(loss, 7.0)
    with torch.no_grad():
        error = gained.error(values, targets, 3)
        total = gained.total(values, targets, 3, error)
    torch.testing.assert_close(error, gradient, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(total, expected.detach(), rtol=1e-13, atol=0)
    assert not error[..., 3:].any()


def test_without_a_gain_a_loss_is_itself() -> None:
    for name, loss in LOSSES.items():
        assert find_loss(name) is find_loss(loss) is loss


@pytest.mark.parametrize("gain", [0.0, -1.0, float("inf"), float("nan")])
def test_a_gain_that_is_none_is_refused(gain: float) -> None:
    with pytest.raises(ArgumentError, match=r"output_gain is .*; allowed: above 0, finite"):
        find_loss("cross_entropy", gain)


def test_totals_are_summed_in_float64() -> None:
    for loss in LOSSES.values():
        values = outputs().float()
        error = loss.error(values, LABELS, 3)
        assert error.dtype == torch.float32
        assert loss.total(values, LABELS, 3, error).dtype == torch.float64


def test_large_outputs_do_not_overflow() -> None:
    values = torch.tensor([[[1e30, -1e30, 0.0]]])
    loss, labels = LOSSES["cross_entropy"], torch.tensor([[0]])
    assert not loss.error(values, labels, 3).any()
    assert loss.total(values, labels, 3, values).item() == 0.0


def test_hits() -> None:
    values = torch.tensor([[[3.0, 1, 2, 9], [0, 5, 1, 9]], [[1, 2, 3, 9], [3, 2, 1, 9]]])
    labels = torch.tensor([[0, 0], [2, 0]])
    assert hits(values, labels, 3).tolist() == [1, 2]
    assert hits(values, functional.one_hot(labels, 3).float(), 3).tolist() == [1, 2]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["one", "narrow"])
def test_one_hot_targets_are_labels(name: str, loss: str) -> None:
    network, batch = a_network(ARCHITECTURES[name], (0, 1)), a_batch(ARCHITECTURES[name])
    one_hot = functional.one_hot(batch.labels, batch.n_classes).double()
    expected = layer_gradients(network, *batch, loss=loss)
    for targets in (one_hot, one_hot.expand(2, *one_hot.shape)):
        received = layer_gradients(network, batch.inputs, targets, batch.n_classes, loss=loss)
        for ours, theirs in zip(received, expected, strict=True):
            torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-14, atol=1e-16)


def test_soft_targets_are_autograds() -> None:
    network, batch = a_network(ARCHITECTURES["one"]), a_batch(ARCHITECTURES["one"], 4)
    batch = Batch(batch.inputs, soft()[0], 3)
    received = layer_gradients(network, *batch, rule="bp")
    for ours, theirs in zip(received, plain.autograd(network, batch).weights, strict=True):
        torch.testing.assert_close(ours.weight[0], theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int64]
)
def test_labels_of_any_integers(dtype: torch.dtype) -> None:
    labels = check_targets(torch.tensor([0, 2, 1, 0]).to(dtype), (2, 4), 3, torch.zeros(1))
    assert labels.dtype is torch.int64
    assert labels.tolist() == [[0, 2, 1, 0]] * 2


REFUSED = {
    "shape": (torch.zeros(4, 2), ["float32", "(4, 2)", "integers", "(4, 3)"]),
    "dtype": (torch.zeros(4, 3, dtype=torch.float64), ["float64", "torch.float32"]),
    "seeds": (torch.zeros(5, 4, 3), ["(5, 4, 3)"]),
    "labels of other seeds": (torch.zeros(5, 4).long(), ["(5, 4)", "4 inputs"]),
    "booleans": (torch.zeros(4).bool(), ["bool", "integers"]),
    "not finite": (torch.full((4, 3), torch.nan), ["NaN", "finite"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_targets_that_do_not_fit_are_refused(name: str) -> None:
    targets, words = REFUSED[name]
    with pytest.raises(ArgumentError) as caught:
        check_targets(targets, (2, 4), 3, torch.zeros(1))
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_loss_is_refused() -> None:
    network, batch = a_network(ARCHITECTURES["narrow"]), a_batch(ARCHITECTURES["narrow"])
    with pytest.raises(ArgumentError, match="loss is 'hinge'; allowed: squared_error, cross_ent"):
        layer_gradients(network, *batch, loss="hinge")
    with pytest.raises(ArgumentError, match="penalty is 'some'; allowed: off_diagonal, full"):
        layer_gradients(network, *batch, penalty="some")
