"""Optuna, random search and early stopping, run to their end; each rule is a contest of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.sweep.searcher import AshaByRule
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
            configuration = {"rule": rule}
            trial: Any = SimpleNamespace(
                trial_id=f"{rule}{number}", config={"configuration": configuration}
            )
            contest.on_trial_add(None, trial)
            result = {"epoch": 4, "validation_accuracy": best + number / 1000}
            if contest.on_trial_result(None, trial, result) == "CONTINUE":
                went_on[rule].append(number)
    # Each trial is the best of its rule so far.
    assert went_on == {"bp": list(range(8)), "tp": list(range(8))}


@pytest.mark.parametrize(
    ("space", "more"),
    [
        (DRAWN, "  search: random\n  trials: 3\n"),
        (DRAWN, "  search: optuna\n  trials: 3\n"),
        (GRID, "  early_stopping: asha\n"),
    ],
    ids=["random", "optuna", "asha"],
)
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
