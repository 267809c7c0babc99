"""A rule may be a plain function, tried without a package."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gaitprop
from gaitprop import RULES, ArgumentError, layer_gradients
from gaitprop.diagnostics import alignment_with_bp
from gaitprop.nn import InvertibleLinear
from gaitprop.rules import find_rule
from gaitprop.rules.layer import LayerView
from gaitprop.training import TrainingData, TrainingSettings, make_optimizer, train
from tests.gaitprop.plain import ARCHITECTURES, a_batch, a_network


def sign_symmetry(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    return layer.local_error @ layer.weight.sign()


def too_wide(layer: LayerView, error: Tensor, scale: float) -> Tensor:
    return torch.cat([error, error], dim=-1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["one", "narrow"])
def test_a_function_is_a_rule(name: str, rule: str) -> None:
    network, batch = a_network(ARCHITECTURES[name]), a_batch(ARCHITECTURES[name])
    expected = layer_gradients(network, *batch, rule=rule, gamma=0.1)
    received = layer_gradients(network, *batch, rule=RULES[rule], gamma=0.1)
    for ours, theirs in zip(received, expected, strict=True):
        assert torch.equal(ours.weight, theirs.weight)


def test_an_idea_of_ones_own() -> None:
    network, batch = a_network(ARCHITECTURES["narrow"]), a_batch(ARCHITECTURES["narrow"])
    received = layer_gradients(network, *batch, rule=sign_symmetry)
    bp = layer_gradients(network, *batch, rule="bp")
    assert torch.equal(received[-1].weight, bp[-1].weight)
    assert not torch.allclose(received[0].weight, bp[0].weight)
    alignment = alignment_with_bp(network, *batch, sign_symmetry, 0.0)
    assert 0.1 < alignment.cosine[0, 0] < 0.999
    settings = TrainingSettings(rule=sign_symmetry, batch_size=3)
    data = TrainingData(batch.inputs, batch.labels, batch.inputs, batch.labels, batch.n_classes)
    before = network.weights[0].clone()
    assert len(list(train(network, make_optimizer(network, settings), data, settings))) == 2
    assert not torch.equal(network.weights[0], before)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            too_wide,
            r"the rule 'too_wide' returned torch.float64 of shape \(1, 7, 8\) on cpu; allowed: ",
        ),
        (lambda *_: None, "the rule '<lambda>' returned NoneType"),
        (3, "rule is 3; allowed: a name or a function"),
    ],
)
def test_a_function_that_gives_no_error_is_refused(rule: Any, message: str) -> None:
    network, batch = a_network(ARCHITECTURES["narrow"]), a_batch(ARCHITECTURES["narrow"])
    with pytest.raises(ArgumentError, match=message):
        layer_gradients(network, *batch, rule=rule)


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert gaitprop.__version__ == project["project"]["version"]


def test_a_checked_rule_keeps_its_name() -> None:
    """In a model's text, and in the message of an error."""
    checked = find_rule(too_wide)
    assert "rule=too_wide" in repr(InvertibleLinear(4, 4, checked))
    network, batch = a_network(ARCHITECTURES["narrow"]), a_batch(ARCHITECTURES["narrow"])
    with pytest.raises(ArgumentError, match="the rule 'too_wide' returned"):
        layer_gradients(network, *batch, rule=checked)
