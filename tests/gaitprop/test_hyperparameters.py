"""Hyperparameters that rules declare: what is made of them, and what they may not be."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from gaitprop import RULES, ArgumentError, InvertibleNetwork, layer_gradients
from gaitprop.rules import find_rule, hyperparameters_of
from gaitprop.rules.damped import Damped
from gaitprop.rules.hyperparameters import Hyperparameter, RuleFamily
from gaitprop.rules.layer import LayerView
from gaitprop.settings import TrainingSettings
from tests.own_packages import Package, packages

PACKAGE = """
from gaitprop.rules.hyperparameters import Hyperparameter, RuleFamily
def times(factor, turned):
    def rule(layer, error, scale):
        return (-factor if turned else factor) * error
    return rule
times_ = RuleFamily(times, {
    "factor": Hyperparameter(2.0, "what errors are multiplied by", gt=0.0, lt=9.0),
    "turned": Hyperparameter(False, "whether their sign changes"),
})
"""


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    with packages(tmp_path, "gaitprop.rules") as install:
        yield install


def lowest(rule: Any) -> Tensor:
    network = InvertibleNetwork([4] * 3, orthogonal=False)
    inputs = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    return layer_gradients(network, inputs, torch.arange(6) % 4, 4, rule=rule)[0].weight


def test_a_built_in_rule_is_made_of_its_hyperparameters() -> None:
    assert torch.equal(lowest("damped"), lowest(Damped(1.0)))
    made = find_rule("damped", {"damping": 0.25})
    assert torch.equal(lowest(made), lowest(Damped(0.25)))
    assert not torch.equal(lowest(made), lowest("damped"))
    assert hyperparameters_of("gait") == {}


def test_a_built_in_rule_can_be_kept_and_read() -> None:
    """With a whole model in a file, or for another process."""
    made = find_rule("damped", {"damping": 0.25})
    assert pickle.loads(pickle.dumps(made)) == made
    assert repr(made) == "Damped(damping=0.25)"


@pytest.mark.parametrize("rule", [Damped(0.25), RULES["gait"], RULES["kolen_pollack"]])
def test_a_rule_that_is_given_as_itself_can_be_kept_too(rule: Any) -> None:
    found = find_rule(rule)
    assert find_rule(found) == found
    assert pickle.loads(pickle.dumps(found)) == found
    assert hash(TrainingSettings(RULES["damped"])) == hash(TrainingSettings(RULES["damped"]))


def test_a_family_that_makes_no_rule_is_refused() -> None:
    with pytest.raises(ArgumentError, match="made None; allowed: a function"):
        find_rule(RuleFamily(lambda: None, {}))  # type: ignore[arg-type, return-value]


def test_numbers_of_numpy_are_numbers() -> None:
    assert find_rule("damped", {"damping": numpy.float64(0.25)}) == Damped(0.25)
    assert find_rule("damped", {"damping": numpy.int64(2)}) == Damped(2.0)


def test_a_packages_rule_is_too(package: Package) -> None:
    package("times", PACKAGE, times="times_")
    assert [*hyperparameters_of("times")] == ["factor", "turned"]
    default = lowest("times")
    assert torch.allclose(2 * lowest(find_rule("times", {"factor": 4})), 4 * default)
    assert torch.allclose(lowest(find_rule("times", {"turned": True})), -default)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"factor": 0.0}, "factor is 0.0; allowed: float, above 0, below 9"),
        ({"factor": 9.0}, "factor is 9.0; allowed: float, above 0, below 9"),
        ({"factor": float("nan")}, "factor is nan; allowed: float, above 0, below 9"),
        ({"factor": "2"}, "factor is '2'; allowed: float"),
        ({"factor": True}, "factor is True; allowed: float"),
        ({"turned": 1}, "turned is 1; allowed: bool"),
        ({"factr": 1.0}, "'factr' is no hyperparameter of the rule; allowed: factor, turned"),
    ],
)
def test_what_they_may_not_be(package: Package, values: dict[str, Any], said: str) -> None:
    package("times", PACKAGE, times="times_")
    with pytest.raises(ArgumentError) as caught:
        find_rule("times", values)
    assert str(caught.value).startswith(said)


def test_bounds_that_are_allowed_themselves() -> None:
    def make(count: int) -> Any:
        def rule(layer: LayerView, error: Tensor, scale: float) -> Tensor:
            return count * error

        return rule

    family = RuleFamily(make, {"count": Hyperparameter(1, "a number", ge=1, le=3)})
    for count in (1, 3):
        assert torch.allclose(lowest(find_rule(family, {"count": count})), count * lowest(family))
    for count in (0, 4, 1.0):
        with pytest.raises(ArgumentError, match="allowed: int, at least 1, at most 3"):
            find_rule(family, {"count": count})


def test_a_rule_without_any_takes_none() -> None:
    with pytest.raises(ArgumentError, match="the rule 'gait' has no hyperparameters; received mu"):
        find_rule("gait", {"mu": 1.0})
