"""What a rule has of its own in params.yaml reaches its training, and nobody else's record."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gaitprop import InvertibleNetwork, layer_gradients
from gaitprop.rules.damped import Damped
from gaitprop.settings import check_settings
from pipeline.params import params_file, search_space
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey
from pipeline.training.experiment import described, training_settings

REPOSITORY = Path(__file__).parents[3]
DIGITS = (REPOSITORY / "profiles" / "digits.yaml").read_text()
RULES = """rules:
  damped: {learning_rate: 0.001, orthogonality: 0.1, damping: 0.3}
  kolen_pollack:
    {learning_rate: 0.001, orthogonality: 0.0, feedback_learning_rate: 0.002, weight_decay: 0.5}
  gait: {learning_rate: 0.001, orthogonality: 0.1, output_gain: 3}

"""


def load(folder: Path, sweep: str = "") -> Params:
    head = DIGITS[: DIGITS.index("\nsweep:")]
    rules = head[head.index("\nrules:") + 1 : head.index("\ntraining:") + 1]
    text = head.replace("[bp, gait, itp, tp]", "[damped, kolen_pollack, gait]")
    path = folder / "params.yaml"
    path.write_text(text.replace(rules, RULES) + f"\nsweep:\n  rules: [damped]\n{sweep}")
    return params_file.load(path)


SWEEP = "  space: {rule.damping: [0.0, 2.0]}\n"


def key(model: str) -> ModelKey:
    return ModelKey("digits", "digits", "square", model)


def test_a_rules_settings_reach_its_training(tmp_path: Path) -> None:
    params = load(tmp_path, SWEEP)
    found = {model: training_settings(params, key(model)) for model in params.models()}
    for each in found.values():
        check_settings(each)
    assert [found[m].feedback_learning_rate for m in params.models()] == [None, None, 0.002, None]
    assert [found[m].weight_decay for m in params.models()] == [0.0, 0.0, 0.5, 0.0]
    assert [found[m].output_gain for m in params.models()] == [1.0, 1.0, 1.0, 3.0]
    network, inputs = InvertibleNetwork([4] * 3, orthogonal=False), torch.eye(4)
    batch = (network, inputs, torch.arange(4), 4)
    given, expected = (
        layer_gradients(*batch, rule=rule) for rule in (found["damped"].rule, Damped(0.3))
    )
    assert torch.equal(given[0].weight, expected[0].weight)
    assert (found["kolen_pollack"].rule, found["gait"].rule) == ("kolen_pollack", "gait")


def test_what_is_not_given_is_not_recorded(tmp_path: Path) -> None:
    params = load(tmp_path, SWEEP)
    settings = {m: described(params, key(m), "0")["settings"] for m in params.models()}
    known = {"learning_rate", "orthogonality", "penalty", "constraint", "gamma"}
    assert settings["reference"].keys() == known
    assert settings["gait"].keys() == known | {"output_gain"}
    assert settings["damped"].keys() == known | {"damping"}
    assert settings["kolen_pollack"].keys() == known | {"feedback_learning_rate", "weight_decay"}


def test_they_are_swept(tmp_path: Path) -> None:
    params = load(tmp_path, SWEEP)
    assert search_space.configurations(params) == [
        Configuration("damped", {"rule.damping": value}) for value in (0.0, 2.0)
    ]
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("rules: [damped]", "rules: [kolen_pollack]"))
    with pytest.raises(GaitError, match=r"rule.damping: unknown name 'rule.damping'"):
        params_file.load(path)
    path.write_text(path.read_text().replace("rules: [kolen", "rules: [damped, kolen"))
    with pytest.raises(
        GaitError, match=r"rule.damping: kolen_pollack has no damping; allowed: sweep.rules of dam"
    ):
        params_file.load(path)
