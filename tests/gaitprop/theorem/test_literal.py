"""The published evaluation, kept for demonstration, against the tests' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaitprop import ArgumentError, InvertibleNetwork, layer_gradients
from gaitprop.theorem.literal import LITERAL_RULES, literal_gradients, rescaled_gradients
from tests.gaitprop import plain
from tests.gaitprop.oracles import Case, literal, random_case, relative
from tests.gaitprop.plain import ARCHITECTURES, a_batch, a_network
from tests.gaitprop.rounding import assert_within, gradient_bounds


@pytest.mark.parametrize("rule", LITERAL_RULES)
@pytest.mark.parametrize("slope", [1.0, 0.1])
@pytest.mark.parametrize("widths", [(6, 6), (6, 6, 6), (9, 7, 5, 3)])
def test_within_the_published_codes_rounding(
    widths: tuple[int, ...], slope: float, rule: str
) -> None:
    case = random_case(widths, slope, batch=6)
    trace = literal(case, rule, 0.01, digits=50)
    bounds = gradient_bounds(case, trace, rule, 0.01, published=True)
    batch = torch.tensor(case.inputs), torch.tensor(case.labels), case.n_classes
    received = literal_gradients(case.network(), *batch, rule, 0.01)
    for layer, (weight, bias) in enumerate(received):
        pair = weight.numpy(), bias.numpy()
        assert_within(pair, trace.gradients[layer], bounds[layer], f"layer {layer + 1}")


def test_seeds_as_a_leading_dimension() -> None:
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 5, 8, dtype=torch.float64, generator=source)
    labels = torch.randint(3, (2, 5), generator=source)
    both = InvertibleNetwork((8, 8, 4), seeds=(3, 4), dtype=torch.float64)
    together = literal_gradients(both, inputs, labels, 3, "gait", 0.1)
    for index, seed in enumerate((3, 4)):
        one = InvertibleNetwork((8, 8, 4), seeds=(seed,), dtype=torch.float64)
        alone = literal_gradients(one, inputs[[index]], labels[index], 3, "gait", 0.1)
        for left, right in zip(together, alone, strict=True):
            torch.testing.assert_close(left.weight[index], right.weight[0])
            torch.testing.assert_close(left.bias[index], right.bias[0])


@pytest.mark.parametrize("rule", LITERAL_RULES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_convolutions_by_transposed_ones(name: str, rule: str) -> None:
    network, batch = a_network(ARCHITECTURES[name], bend=0.1), a_batch(ARCHITECTURES[name])
    expected = plain.by_targets(network, batch, rule, 0.1)
    received = literal_gradients(network, *batch, rule, 0.1)
    for ours, weight, bias in zip(received, expected.weights, expected.biases, strict=True):
        torch.testing.assert_close(ours.weight[0], weight, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(ours.bias[0], bias, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("length", ["a", None, True, 0.0])
def test_a_length_that_is_none_is_refused(length: object) -> None:
    network = InvertibleNetwork((4, 4), dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"^length is "):
        rescaled_gradients(network, torch.ones(1, 4), torch.zeros(1).long(), 2, length)  # type: ignore[arg-type]


def rescaled_by_loops(case: Case, length: float) -> list[np.ndarray]:
    """The follow-up's formula for the weights, one sample at a time."""
    found = [np.zeros_like(weight) for weight in case.weights]
    for x, label in zip(case.inputs, case.labels, strict=True):
        ys = [x]
        for weight, bias in zip(case.weights, case.biases, strict=True):
            hidden = weight @ ys[-1][: len(bias)] + bias
            ys.append(np.where(hidden > 0, hidden, case.slope * hidden))
        target, multiplier = ys[-1].copy(), 1.0
        target[: case.n_classes] = np.arange(case.n_classes) == label
        for layer in range(case.depth, 0, -1):
            y, below = ys[layer], ys[layer - 1]
            weight, bias, n = case.weights[layer - 1], case.biases[layer - 1], len(y)
            derivative = np.where(y > 0, 1.0, case.slope)
            local = derivative * multiplier * (y - target)
            found[layer - 1] += np.outer(local, below[:n]) / len(case.inputs)
            gamma = length * n**0.5 / np.sqrt(((target - y) ** 2).sum())
            aim = y + gamma * derivative**2 * (target - y)
            hidden = np.where(aim > 0, aim, aim / case.slope)
            target = below.copy()
            target[:n] = np.linalg.inv(weight) @ (hidden - bias)
            multiplier /= gamma
    return found


@pytest.mark.parametrize("length", [1e-4, 0.1, 2.0])
@pytest.mark.parametrize("widths", [(6, 6), (6, 6, 6, 6), (9, 7, 5, 3)])
def test_rescaled_is_the_follow_ups_formula(widths: tuple[int, ...], length: float) -> None:
    """At lengths that push units across the kink too, and at one that pushes none."""
    case = random_case(widths, 0.3, "near", batch=6)
    batch = torch.tensor(case.inputs), torch.tensor(case.labels), case.n_classes
    received = rescaled_gradients(case.network(), *batch, length)
    for ours, theirs in zip(received, rescaled_by_loops(case, length), strict=True):
        assert relative(ours.weight.numpy(), theirs) < 1e-9


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rescaled_is_gait_prop_in_its_limit(name: str) -> None:
    """Steps too short to cross a kink, weights of any kind; convolutions too."""
    network, batch = a_network(ARCHITECTURES[name], bend=0.1), a_batch(ARCHITECTURES[name])
    expected = layer_gradients(network, *batch, rule="gait", gamma=0.0)
    received = rescaled_gradients(network, *batch, 1e-6)
    for ours, theirs in zip(received, expected, strict=True):
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_has_a_length(length: float) -> None:
    network, batch = a_network(ARCHITECTURES["narrow"]), a_batch(ARCHITECTURES["narrow"])
    with pytest.raises(ArgumentError, match=f"length is {length}; allowed: above 0"):
        rescaled_gradients(network, *batch, length)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0]), "labels are torch.int64 of shape"),
        (torch.tensor([0, 1, 2, 9]), "labels reach from 0 to 9"),
        (torch.eye(4, 3), "soft targets"),
    ],
)
def test_labels_are_looked_at(labels: torch.Tensor, message: str) -> None:
    network, inputs = InvertibleNetwork((4, 4, 4)), torch.rand(4, 4)
    for gradients, more in ((literal_gradients, ("tp", 0.1)), (rescaled_gradients, (0.1,))):
        with pytest.raises(ArgumentError, match=message):
            gradients(network, inputs, labels, 3, *more)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("rule", "gamma", "message"),
    [
        ("bp", 1e-3, "rule is 'bp'; allowed: gait, itp, tp"),
        ("gait", 0.0, "gamma is 0.0; allowed: above 0"),
        ("itp", 1.5, "gamma is 1.5"),
        ("gait", float("nan"), "gamma is nan"),
    ],
)
def test_refused(rule: str, gamma: float, message: str) -> None:
    network = InvertibleNetwork((3, 3))
    with pytest.raises(ArgumentError, match=message):
        literal_gradients(network, torch.ones(1, 3), torch.tensor([0]), 2, rule, gamma)
