"""Optuna, random search and early stopping, run to their end; each rule is a contest of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.sweep.records import FINISHED, STOPPED
from tests.pipeline.project_copy import gait, small_params

# TP learns nothing at this rate, and BP much: in one contest all of TP's trials would be stopped.
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
