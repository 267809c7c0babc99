"""Runs in a real MLflow store: what they are made with, and that all are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.tracking import run_metrics
from pipeline.tracking.run_metrics import all_runs, create


def test_a_tag_is_no_longer_than_a_database_takes(tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    experiment = client.create_experiment("any", artifact_location=str(tmp_path))
    made = create(client, experiment, "run", 7, {"short": "x", "long": "x" * 9000})
    found = client.get_run(made.run_id)
    assert (found.info.run_name, found.info.start_time) == ("run", 7)
    assert found.data.tags["short"] == "x"
    assert found.data.tags["long"] == "x" * 7999 + "…"


def test_a_name_is_no_longer_than_a_database_takes(tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    experiment = client.create_experiment("any", artifact_location=str(tmp_path))
    for name in ("x" * 250, "x" * 243 + ", seed 59"):
        found = client.get_run(create(client, experiment, name, 7, {}).run_id)
        assert found.info.run_name == found.data.tags["mlflow.runName"]
        assert found.info.run_name == (name if len(name) == 250 else f"{'x' * 199}…{name[-50:]}")
        assert len(found.info.run_name) == 250


def test_runs_of_several_pages_are_all_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_metrics, "RUNS_A_PAGE", 2)
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    experiment = client.create_experiment("any", artifact_location=str(tmp_path))
    made = [create(client, experiment, "run", at, {}).run_id for at in range(1, 6)]
    found = all_runs(client, experiment, "", ["attributes.start_time ASC"])
    assert [each.info.run_id for each in found] == made
