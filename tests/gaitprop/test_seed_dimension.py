"""Seeds as a leading dimension: S networks side by side give what S networks alone give.

Bit for bit where each seed's matrices and batches start on a 64-byte boundary, on one thread: the
matrix products' kernels go by alignment, and round otherwise where that differs. The published
widths and batch do (784 · 60 numbers), an odd width does not. The solves are the same bits always.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gaitprop import InvertibleNetwork, layer_gradients
from gaitprop.linalg import solve_rows
from tests.gaitprop.oracles import DTYPES, RULE_NAMES, relative

SEEDS = (4, 11, 7)
WIDTHS = [(6, 6, 6), (20, 20, 12, 5), (260, 260, 40)]
ALIGNED = [(16, 16, 16), (64, 64, 32, 16), (272, 272, 48)]
BATCH = 16
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-4}


def _batch(widths: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    inputs = torch.randn(len(SEEDS), BATCH, widths[0], dtype=torch.float64, generator=source)
    return inputs.to(dtype), torch.randint(4, (len(SEEDS), BATCH), generator=source)


def _network(
    widths: tuple[int, ...], dtype: torch.dtype, seeds: tuple[int, ...]
) -> InvertibleNetwork:
    network = InvertibleNetwork(widths, seeds=seeds, dtype=dtype)
    for bias in network.biases:
        bias += torch.linspace(-0.2, 0.2, bias.shape[-1], dtype=dtype)
    return network


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("widths", ALIGNED)
def test_together_or_alone_bit_for_bit(
    widths: tuple[int, ...], rule: str, dtype: torch.dtype
) -> None:
    for together, alone in _pairs(widths, rule, dtype):
        assert torch.equal(together, alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("widths", WIDTHS)
def test_together_or_alone(widths: tuple[int, ...], rule: str, dtype: torch.dtype) -> None:
    for together, alone in _pairs(widths, rule, dtype):
        assert relative(together.numpy(), alone.numpy()) < ROUNDING[dtype]


def _pairs(
    widths: tuple[int, ...], rule: str, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each seed's gradients, computed with the other seeds and without them."""
    inputs, labels = _batch(widths, dtype)
    together = layer_gradients(_network(widths, dtype, SEEDS), inputs, labels, 4, rule, 0.1, 0.01)
    for s, seed in enumerate(SEEDS):
        network = _network(widths, dtype, (seed,))
        alone = layer_gradients(network, inputs[[s]], labels[[s]], 4, rule, 0.1, 0.01)
        for left, right in zip(together, alone, strict=True):
            yield left.weight[s], right.weight[0]
            yield left.bias[s], right.bias[0]


@pytest.mark.parametrize("n", [3, 7, 20, 260])
@pytest.mark.parametrize("threads", [1, 2])
def test_solves_together_or_alone_bit_for_bit(n: int, threads: int) -> None:
    """On several threads too, where PyTorch's own batched solve fails from n = 200 or so on."""
    source = torch.Generator().manual_seed(4)
    weights, rows = torch.randn(3, n, n, generator=source), torch.randn(3, 9, n, generator=source)
    torch.set_num_threads(threads)
    try:
        for index, together in enumerate(solve_rows(weights, rows)):
            assert torch.equal(together, solve_rows(weights[index], rows[index]))
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("widths", WIDTHS)
def test_without_a_seed_dimension(widths: tuple[int, ...], rule: str) -> None:
    """(n, n) weights and (batch, n) inputs; another product kernel may round differently."""
    inputs, labels = _batch(widths, torch.float64)
    seeded = _network(widths, torch.float64, (4,))
    plain = InvertibleNetwork.from_parameters(
        [weight[0] for weight in seeded.weights],
        [bias[0] for bias in seeded.biases],
        input_width=widths[0],
    )
    expected = layer_gradients(seeded, inputs[:1], labels[:1], 4, rule, 0.1, 0.01)
    received = layer_gradients(plain, inputs[0], labels[0], 4, rule, 0.1, 0.01)
    for left, right in zip(received, expected, strict=True):
        assert left.weight.shape == right.weight.shape[1:]
        assert relative(left.weight.numpy(), right.weight[0].numpy()) < 1e-12
        assert relative(left.bias.numpy(), right.bias[0].numpy()) < 1e-12


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_one_batch_for_all_seeds(rule: str) -> None:
    """(batch, n_0) inputs and (batch,) labels are given to each seed."""
    inputs, labels = _batch((6, 6, 6), torch.float32)
    network = _network((6, 6, 6), torch.float32, SEEDS)
    shared = layer_gradients(network, inputs[0], labels[0], 4, rule)
    repeated = layer_gradients(network, inputs[[0, 0, 0]], labels[[0, 0, 0]], 4, rule)
    for left, right in zip(shared, repeated, strict=True):
        assert torch.equal(left.weight, right.weight)
        assert torch.equal(left.bias, right.bias)


def test_inputs_and_parameters_are_left_alone() -> None:
    inputs, labels = _batch((6, 6, 4), torch.float64)
    network = _network((6, 6, 4), torch.float64, SEEDS)
    before = [tensor.clone() for tensor in (inputs, labels, *network.parameters())]
    for rule in RULE_NAMES:
        layer_gradients(network, inputs, labels, 4, rule, 0.1, 0.1)
    after = (inputs, labels, *network.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("integer", [torch.int32, torch.uint8, torch.int64])
def test_labels_of_any_integer_type(integer: torch.dtype) -> None:
    inputs, labels = _batch((6, 6, 6), torch.float64)
    network = _network((6, 6, 6), torch.float64, SEEDS)
    expected = layer_gradients(network, inputs, labels, 4)
    received = layer_gradients(network, inputs, labels.to(integer), 4)
    assert torch.equal(received[0].weight, expected[0].weight)
