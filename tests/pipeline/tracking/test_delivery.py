"""Records that MLflow did not take are delivered later, each once, whatever else lies there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.project.paths import ModelKey
from pipeline.tracking import delivery
from pipeline.tracking.model_runs import ModelRuns
from pipeline.tracking.store import KEY_TAG, open_experiment
from pipeline.training.epochs import FINISHED, KILLED, RUNNING, Epoch
from pipeline.training.experiment import described, parameters
from pipeline.training.training_record import Training, ended
from tests.pipeline.trained import runs


@pytest.fixture(scope="module")
def settings(ready: Path) -> dict[str, Any]:
    params = params_file.load(ready / "params.yaml")
    images = image_tensors.load(ready / "data" / "digits" / "digits.safetensors")
    return parameters(
        described(params, ModelKey("digits", "digits", "square", "gait"), images.checksum)
    )


def record(name: str, settings: dict[str, Any]) -> Training:
    rows = [{"epoch": 0, "seed": 3, "validation_loss": 0.5, "validation_accuracy": 0.25}]
    tags = {"gait.profile": "digits", "gait.dataset": "digits", "gait.architecture": "square"}
    return Training(
        id=name,
        experiment="digits",
        name="digits/square/gait",
        folder="nowhere",
        seeds=[3],
        parameters=settings,
        tags={**tags, "gait.model": "gait", "gait.rule": "gait", "data.sha256": "0" * 64},
        started_ms=1,
        epochs=[Epoch(0, 2, rows)],
        status=KILLED,
        ended_ms=3,
    )


@pytest.fixture
def stored(tmp_path: Path, ready: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an empty store."""
    shutil.copy2(ready / "mlflow.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_was_kept(
    settings: dict[str, Any], stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = Path("states")
    broken = delivery.keep(states / "a", record("broken", settings))
    broken.write_text("{}")
    kept = delivery.keep(states / "b", record("kept", settings))
    delivery.deliver_kept(states)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and f"{broken} is no record of a training" in said[0]
    assert broken.exists() and not kept.parent.exists()
    found = runs(stored)
    assert {run.info.status for run in found} == {"KILLED"}
    assert {run.data.tags["gait.training"] for run in found} == {"kept"}
    client = MlflowClient(f"sqlite:///{stored / 'mlflow.db'}")
    for run in found:
        (point,) = client.get_metric_history(run.info.run_id, "validation_accuracy")
        assert (point.step, point.value, point.timestamp) == (0, 0.25, 2)


def test_a_store_that_refuses_has_it_kept(
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    kept = [delivery.keep(tmp_path / name, record(name, settings)) for name in ("a", "b")]
    delivery.deliver_kept(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert [f"{path} is kept" in line for path, line in zip(kept, said, strict=True)] == [True] * 2
    assert all(path.exists() for path in kept)


def test_a_record_goes_to_the_store_that_it_was_kept_for(
    settings: dict[str, Any],
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = "http://me:secret@127.0.0.1:9"  # pragma: allowlist secret
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    kept = delivery.keep(Path("states"), record("kept", settings))
    assert "secret" not in kept.read_text()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    delivery.deliver_kept(Path("states"))
    said = capsys.readouterr().err
    assert "kept with MLFLOW_TRACKING_URI=http://127.0.0.1:9, and there is no" in said
    assert f"{kept} is kept" in said
    assert kept.exists()
    # As the sentence says.
    content = json.loads(kept.read_text())
    del content["store"]
    kept.write_text(json.dumps(content))
    delivery.deliver_kept(Path("states"))
    assert not kept.exists() and len(runs(stored)) == 2


def test_how_long_it_took_is_sent_once(settings: dict[str, Any], stored: Path) -> None:
    """A kill between the end's figures and the end: whoever goes on ends it once more."""
    client, experiment = open_experiment("digits")
    going = replace(record("once", settings), status=RUNNING, ended_ms=None, seconds=1.5)
    for seconds in (1.5, 1.75):
        runs_of = ModelRuns(client, experiment)
        runs_of.send(going)
        runs_of.send(ended(replace(going, seconds=seconds), FINISHED, {KEY_TAG: "0"}))
    (parent,) = (run for run in runs(stored) if run.data.tags["gait.level"] == "model")
    (point,) = client.get_metric_history(parent.info.run_id, "duration_s")
    assert point.value == 1.5
    assert parent.info.status == "FINISHED"


def test_a_training_that_went_on_says_no_more_why_it_had_stopped(
    settings: dict[str, Any], stored: Path
) -> None:
    client, experiment = open_experiment("digits")
    stopped = replace(record("once", settings), outcome={"gait.failure": "OSError: disk full"})
    ModelRuns(client, experiment).send(stopped)
    assert {run.data.tags["gait.failure"] for run in runs(stored)} == {"OSError: disk full"}
    ModelRuns(client, experiment).send(ended(stopped, FINISHED, {KEY_TAG: "0"}))
    assert {run.info.status for run in runs(stored)} == {"FINISHED"}
    assert not any("gait.failure" in run.data.tags for run in runs(stored))


class Refusing(MlflowClient):
    """A client of a store in which another process makes the same row, just before."""

    refused = False

    def set_experiment_tag(self, experiment_id: str, key: str, value: Any) -> None:
        super().set_experiment_tag(experiment_id, key, value)
        if not self.refused:
            self.refused = True
            raise MlflowException("UNIQUE constraint failed: experiment_tags.key")


def test_who_begins_at_the_same_moment_is_not_refused(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, experiment = open_experiment("digits")
    client = Refusing(f"sqlite:///{tmp_path / 'mlflow.db'}")
    going = replace(record("once", settings), status=RUNNING, ended_ms=None)
    assert delivery.Delivery(client, experiment, going).close(ended(going, KILLED, {}), 30.0)
    assert client.refused
    assert [run.info.status for run in runs(tmp_path)] == ["KILLED"] * 2
    assert set(client.get_experiment(experiment).tags) >= {"mlflow.note.content"}
