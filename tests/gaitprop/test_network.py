"""Initialisation, parameters, forward and inverse of the network."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gaitprop import InvertibleNetwork, layer_gradients
from gaitprop.seeding import generator
from tests.gaitprop.plain import CONVOLUTIONS

WIDTHS = (40, 40, 30, 30, 10)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_orthogonal_to_rounding(dtype: torch.dtype, limit: float) -> None:
    network = InvertibleNetwork(WIDTHS, seeds=(0, 1, 2), dtype=dtype)
    for weight in network.weights:
        eye = torch.eye(weight.shape[-1], dtype=dtype)
        assert float((weight.mT @ weight - eye).abs().max()) < limit
        assert float((weight @ weight.mT - eye).abs().max()) < limit


def test_orthogonal_matrices_are_uniform() -> None:
    """No direction is favoured: the mean over the group is 0 (bare QR: the diagonal's is not).

    The mean of S entries of variance 1/n stays within 5 standard errors, 5/√(nS).
    """
    n, seeds = 6, 400
    weight = InvertibleNetwork((n, n), seeds=range(seeds), dtype=torch.float64).weights[0]
    limit = 5 / (n * seeds) ** 0.5
    assert float(weight.mean(0).abs().max()) < limit
    assert float((weight**2).mean(0).sub(1 / n).abs().max()) < 5 / n / seeds**0.5 * 2**0.5
    signs = torch.linalg.det(weight).sign()
    assert abs(float(signs.mean())) < 5 / seeds**0.5


def test_gaussian_weights_have_variance_one_over_n() -> None:
    """Over 200·200·4 entries the variance's relative standard error is √(2/160000) = 0.0035."""
    network = InvertibleNetwork((200, 200, 50), orthogonal=False, seeds=range(4))
    weight = network.weights[0]
    assert float(weight.var()) == pytest.approx(1 / 200, rel=5 * 0.0035)
    assert abs(float(weight.mean())) < 5 / 200**0.5 / 400
    assert float(network.weights[1].var()) == pytest.approx(1 / 50, rel=5 * (2 / 10000) ** 0.5)


@pytest.mark.parametrize("orthogonal", [True, False])
def test_a_seed_gives_one_network_whatever_the_others(orthogonal: bool) -> None:
    together = InvertibleNetwork(WIDTHS, orthogonal=orthogonal, seeds=(9, 2, 5))
    for index, seed in enumerate((9, 2, 5)):
        alone = InvertibleNetwork(WIDTHS, orthogonal=orthogonal, seeds=(seed,))
        for left, right in zip(together.parameters(), alone.parameters(), strict=True):
            assert torch.equal(left[index], right[0])


@pytest.mark.parametrize("orthogonal", [True, False])
def test_seeds_and_layers_differ(orthogonal: bool) -> None:
    """The published code drew its last two square layers alike: a correlation of 1."""
    network = InvertibleNetwork((20,) * 5, orthogonal=orthogonal, seeds=(0, 1), dtype=torch.float64)
    drawn = [weight[seed].flatten() for weight in network.weights for seed in range(2)]
    for i, left in enumerate(drawn):
        for right in drawn[:i]:
            cosine = float(left @ right / left.norm() / right.norm())
            assert abs(cosine) < 6 / 400**0.5


def test_a_draw_depends_on_seed_purpose_and_index() -> None:
    def draw(*name: int | str) -> float:
        return float(torch.rand(1, dtype=torch.float64, generator=generator(*name)))  # type: ignore[arg-type]

    names = [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1), (-1, "a", 0), (11, "a", 0)]
    values = [draw(*name) for name in names]
    assert len(set(values)) == len(names)
    assert [draw(*name) for name in names] == values


def test_global_randomness_plays_no_part() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = InvertibleNetwork((8, 8), seeds=(3,)).weights[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(InvertibleNetwork((8, 8), seeds=(3,)).weights[0], first)


@pytest.mark.parametrize("orthogonal", [True, False])
def test_one_draw_for_both_precisions(orthogonal: bool) -> None:
    single = InvertibleNetwork(WIDTHS, orthogonal=orthogonal)
    double = InvertibleNetwork(WIDTHS, orthogonal=orthogonal, dtype=torch.float64)
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    for narrow, wide in zip(single.weights, double.weights, strict=True):
        assert torch.equal(narrow, wide.float())


def test_shapes_and_attributes() -> None:
    network = InvertibleNetwork(WIDTHS, seeds=(7, 8))
    assert network.widths == WIDTHS
    assert network.seeds == (7, 8)
    assert network.depth == 4
    assert network.device == torch.device("cpu")
    assert [tuple(w.shape) for w in network.weights] == [(2, n, n) for n in WIDTHS[1:]]
    assert [tuple(b.shape) for b in network.biases] == [(2, n) for n in WIDTHS[1:]]
    assert not any(bias.any() for bias in network.biases)
    expected = [*network.weights, *network.biases]
    assert all(a is b for a, b in zip(network.parameters(), expected, strict=True))


def _networks() -> list[InvertibleNetwork]:
    column_major = torch.arange(9.0).reshape(3, 3).T + 5 * torch.eye(3)
    given = InvertibleNetwork.from_parameters([column_major] * 2, [torch.zeros(6)[::2]] * 2)
    drawn = [InvertibleNetwork((6, 6, 4), orthogonal=o, seeds=s) for o in (True, False)
             for s in ((0,), (0, 1))]  # fmt: skip
    return [given, *drawn]


@pytest.mark.parametrize("network", _networks())
def test_parameters_and_gradients_are_contiguous(network: InvertibleNetwork) -> None:
    """Fused Adam pairs parameter and gradient by memory order: both must be row-major."""
    labels = torch.zeros(3, dtype=torch.int64)
    for rule in ("bp", "gait"):
        inputs = torch.ones(3, network.widths[0])
        gradients = layer_gradients(network, inputs, labels, 2, rule, orthogonality=0.1)
        for weight, bias, (d_weight, d_bias) in zip(
            network.weights, network.biases, gradients, strict=True
        ):
            for tensor in (weight, bias, d_weight, d_bias):
                assert tensor.is_contiguous()
            assert d_weight.stride() == weight.stride()


def test_a_step_of_fused_adam_moves_each_weight_against_its_own_gradient() -> None:
    """Adam's first step is −lr·g/(|g| + ε): its sign tells which gradient an entry was given."""
    network = InvertibleNetwork((9, 9, 5), seeds=(0, 1), dtype=torch.float64)
    before = [parameter.clone() for parameter in network.parameters()]
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(7, 9, dtype=torch.float64, generator=source)
    labels = torch.randint(5, (7,), generator=source)
    gradients = layer_gradients(network, inputs, labels, 5)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, eps=1e-12, fused=True)
    flat = [g.weight for g in gradients] + [g.bias for g in gradients]
    for parameter, gradient in zip(network.parameters(), flat, strict=True):
        parameter.grad = gradient
    optimizer.step()
    for old, new, gradient in zip(before, network.parameters(), flat, strict=True):
        torch.testing.assert_close(new, old - 0.01 * gradient.sign(), rtol=0, atol=1e-8)


def test_given_parameters_are_copied() -> None:
    weight, bias = torch.eye(3), torch.ones(3)
    network = InvertibleNetwork.from_parameters([weight], [bias], input_width=5)
    weight.zero_()
    bias.zero_()
    assert torch.equal(network.weights[0], torch.eye(3))
    assert torch.equal(network.biases[0], torch.ones(3))
    assert network.widths == (5, 3)
    assert network.seeds == (0,)


def test_given_seeds_are_recorded() -> None:
    weights, biases = [torch.eye(2).expand(3, 2, 2)], [torch.zeros(3, 2)]
    assert InvertibleNetwork.from_parameters(weights, biases).seeds == (0, 1, 2)
    named = InvertibleNetwork.from_parameters(weights, biases, seeds=(5, 6, 9))
    assert named.seeds == (5, 6, 9)


def _filled(
    widths: tuple[int, ...], activation: str, seeds: tuple[int, ...]
) -> tuple[InvertibleNetwork, Tensor]:
    network = InvertibleNetwork(
        widths, activation, 0.2, True, seeds, auxiliary_inputs=True, dtype=torch.float64
    )
    source = torch.Generator().manual_seed(1)
    for bias in network.biases:
        bias.copy_(torch.randn(bias.shape, dtype=torch.float64, generator=source))
    inputs = torch.randn(len(seeds), 6, widths[0], dtype=torch.float64, generator=source)
    return network, inputs


@pytest.mark.parametrize("activation", ["leaky_relu", "linear"])
@pytest.mark.parametrize("widths", [(8, 8, 8), (12, 12, 9, 9, 4), (7, 3), (5, 5)])
def test_forward_by_loops_and_back(widths: tuple[int, ...], activation: str) -> None:
    """y_l = f(W_l y_{l-1}[:n_l] + b_l), and the auxiliary units bring the inputs back."""
    network, inputs = _filled(widths, activation, (0, 4))
    slope = 1.0 if activation == "linear" else 0.2
    activations = network.forward(inputs)
    assert torch.equal(activations[0], inputs)
    for seed in range(2):
        for sample in range(6):
            y = inputs[seed, sample]
            for layer, n in enumerate(widths[1:]):
                weight, bias = network.weights[layer][seed], network.biases[layer][seed]
                hidden = torch.stack([(weight[i] * y[:n]).sum() + bias[i] for i in range(n)])
                y = torch.where(hidden > 0, hidden, slope * hidden)
                received = activations[layer + 1][seed, sample]
                torch.testing.assert_close(received, y, rtol=1e-12, atol=1e-13)
    auxiliary = network.auxiliary_units(activations)
    assert [tensor.shape[-1] for tensor in auxiliary] == [
        below - above for below, above in pairwise(widths)
    ]
    received = network.inverse(activations[-1], auxiliary)
    torch.testing.assert_close(received, inputs, rtol=0, atol=1e-11)


def test_a_square_network_needs_no_auxiliary_units() -> None:
    network, inputs = _filled((6, 6, 6), "leaky_relu", (0,))
    outputs = network.forward(inputs)[-1]
    torch.testing.assert_close(network.inverse(outputs), inputs, rtol=0, atol=1e-12)


def test_a_layer_alone_inverts() -> None:
    network, inputs = _filled((9, 7, 4), "leaky_relu", (0, 1))
    activations = network.forward(inputs)
    for layer, n in enumerate((7, 4), start=1):
        received = network.invert_layer(layer, activations[layer])
        torch.testing.assert_close(received, activations[layer - 1][..., :n], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_rows_are_what_the_activations_give(name: str) -> None:
    network = InvertibleNetwork(CONVOLUTIONS[name], seeds=(0, 1))
    inputs = torch.rand(2, 3, network.widths[0], generator=torch.Generator().manual_seed(0))
    activations, rows = network.forward_by_rows(inputs)
    for layer, reading in enumerate(network.architecture.readings):
        assert torch.equal(rows[layer].read, reading.read(activations[layer]))
        assert torch.equal(rows[layer].outputs, reading.rows(activations[layer + 1]))
