"""The published evaluation, kept for demonstration, against the tests' own."""

from __future__ import annotations

import pytest
import torch

from gaitprop import ArgumentError, InvertibleNetwork
from gaitprop.theorem.literal import LITERAL_RULES, literal_gradients
from tests.gaitprop.oracles import literal, random_case
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
