"""Optuna, random search and early stopping, run to their end; each rule is a contest of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from pipeline.params import params_file
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.sweep.searcher import AshaByRule, OptunaByRule
from pipeline.sweep.trial import CHOSEN, as_text, configuration_of
from pipeline.sweep.trial_records import Record
from pipeline.training.epochs import FINISHED, STOPPED
from tests.pipeline.project_copy import gait, small_params

SECTION = """
sweep:
  name: searched
  rules: [bp, tp]
  space:
    rule.learning_rate: {space}
  fixed:
    training.epochs: 4
    training.seeds: [0]
    architecture.hidden_layers: 3
"""
DRAWN = "{loguniform: [1.0e-4, 1.0e-3]}"
GRID = "[1.0e-5, 3.0e-5, 1.0e-4, 3.0e-4, 1.0e-3]"


def test_each_rule_is_a_contest_of_its_own() -> None:
    contest = AshaByRule(40, ["bp", "tp"])
    assert contest.set_search_properties("validation_accuracy", "max")
    went_on: dict[str, list[int]] = {"bp": [], "tp": []}
    for rule, best in (("bp", 0.9), ("tp", 0.3)):
        for number in range(8):
            config = {CHOSEN: as_text(Configuration(rule, {}))}
            trial: Any = SimpleNamespace(trial_id=f"{rule}{number}", config=config)
            contest.on_trial_add(None, trial)
            result = {"epoch": 4, "validation_accuracy": best + number / 1000}
            if contest.on_trial_result(None, trial, result) == "CONTINUE":
                went_on[rule].append(number)
    # Each trial is the best of its rule so far.
    assert went_on == {"bp": list(range(8)), "tp": list(range(8))}


def params_of(folder: Path, space: str, more: str) -> Params:
    text = small_params()
    section = SECTION.replace("    rule.learning_rate: {space}\n", space) + more
    (folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + section)
    return params_file.load(folder / "params.yaml")


def suggested(params: Params, tried: list[Record], count: int) -> list[Configuration]:
    """What comes one by one; trials of a higher learning rate are said to be better."""
    sampler = OptunaByRule(params, tried)
    found: list[Configuration] = []
    for number in range(count):
        suggestion = sampler.suggest(f"ray-{number}")
        assert suggestion is not None
        if suggestion == Searcher.FINISHED:
            break
        found.append(configuration_of(suggestion))
        accuracy = found[-1].values["rule.learning_rate"]
        sampler.on_trial_complete(f"ray-{number}", {"validation_accuracy": accuracy})
    return found


SMALL = "    rule.learning_rate: [1.0e-4, 1.0e-3]\n    rule.orthogonality: [0.0, 0.1, 1.0]\n"


def test_optuna_tries_no_configuration_twice(tmp_path: Path) -> None:
    """All of a small space, once each; a resumed sweep tells again what it has, and goes on."""
    params = params_of(tmp_path, SMALL, "  search: optuna\n  trials: 6\n")
    all_of_it = suggested(params, [], 12)
    assert len({str(each) for each in all_of_it}) == 12
    tried = [
        Record(str(k), each.rule, each.values, FINISHED, [], None, 0, k, {})
        for k, each in enumerate(all_of_it[:7])
    ]
    resumed = suggested(params, tried, 12)
    # Rules take turns, and each has its own in the order in which they ended.
    assert resumed[:6] == all_of_it[:6]
    assert len({str(each) for each in resumed}) == 12
    assert suggested(params, [], 13) == all_of_it


def test_optuna_ends_where_nothing_that_goes_together_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And comes to the last one of many, too."""
    rates = [round(1e-4 + k * 1e-6, 6) for k in range(200)]
    space = (
        f"    rule.learning_rate: {rates}\n"
        "    training.optimizer: [sgd, adam]\n    training.momentum: [0.0, 0.9]\n"
    )
    params = params_of(tmp_path, space, "  search: optuna\n  trials: 600\n")
    found = suggested(params, [], 1202)
    assert len(found) == len({str(each) for each in found}) == 1200
    assert "no further configurations for bp that go together" in capsys.readouterr().out


def test_optuna_does_without_what_does_not_go_together(tmp_path: Path) -> None:
    space = (
        "    rule.learning_rate: {loguniform: [1.0e-4, 1.0e-3]}\n"
        "    training.optimizer: [sgd, adam]\n    training.momentum: [0.0, 0.9]\n"
    )
    params = params_of(tmp_path, space, "  search: optuna\n  trials: 20\n")
    pairs = {
        (each.values["training.optimizer"], each.values["training.momentum"])
        for each in suggested(params, [], 40)
    }
    assert pairs == {("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)}


@pytest.mark.parametrize(
    ("space", "more"),
    [
        (DRAWN, "  search: random\n  trials: 3\n"),
        (DRAWN, "  search: optuna\n  trials: 3\n"),
        (GRID, "  early_stopping: asha\n"),
    ],
    ids=["random", "optuna", "asha"],
)
@pytest.mark.long
def test_to_the_end(tmp_path: Path, space: str, more: str) -> None:
    text = small_params()
    params = text[: text.index("\nsweep:")] + SECTION.replace("{space}", space) + more
    (tmp_path / "params.yaml").write_text(params)
    output = gait(tmp_path, "sweep")
    assert "Traceback" not in output
    paths = list((tmp_path / "sweeps").rglob("trials/*.json"))
    records = [json.loads(path.read_text()) for path in paths]
    by_rule = {rule: [r["status"] for r in records if r["rule"] == rule] for rule in ("bp", "tp")}
    for found in by_rule.values():
        assert len(found) == (5 if space == GRID else 3)
        assert FINISHED in found and set(found) <= {FINISHED, STOPPED}
    winners = gait(tmp_path, "sweep", "best", "--json")
    assert set(json.loads(winners)["rules"]) == {"bp", "tp"}
