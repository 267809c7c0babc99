"""Trials in MLflow: each once, with its whole history, however often sending had to begin anew."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.data import image_tensors
from pipeline.data.image_tensors import ImageData
from pipeline.params import params_file, search_space
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.sweep import sweep_runs
from pipeline.sweep.sweep_runs import SweepRuns
from pipeline.sweep.trial_records import Record, trial_id
from pipeline.tracking import run_view, sending
from pipeline.training.epochs import Epoch
from tests.pipeline.project_copy import small_params

TRIALS, FEW, EPOCHS = 32, 6, 4
SECTION = f"""
sweep:
  rules: [bp]
  search: random
  space: {{rule.learning_rate: {{loguniform: [1.0e-5, 1.0e-1]}}}}
  trials: {TRIALS}
"""
PATIENCE_S = 120


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, ImageData]:
    folder = tmp_path_factory.mktemp("swept")
    text = small_params()
    (folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + SECTION)
    image_tensors.prepare("digits", folder / "digits.safetensors", root=folder)
    return params_file.load(folder / "params.yaml"), image_tensors.load(
        folder / "digits.safetensors"
    )


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store without a run: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default store of a folder, and no time to lose."""
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep_runs, "SEND_S", 0.05)
    monkeypatch.setattr(sending, "LONGEST_PAUSE_S", 0.2)
    return tmp_path / "mlflow.db"


def opened(swept: tuple[Params, ImageData], said: list[str]) -> SweepRuns:
    return SweepRuns(*swept, "sweep-1", {"git.commit": "abc"}, said.append)


def test_a_sweep_that_is_dropped_is_not_running_for_ever(
    swept: tuple[Params, ImageData],
) -> None:
    """Its driver was killed; another sweep takes its name."""
    killed = opened(swept, [])
    for each in trials(swept, 1):
        killed.going(each)
    assert killed.close(PATIENCE_S)
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("digits-sweeps")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        client.update_run(run.info.run_id, status="RUNNING")
    other = SweepRuns(*swept, "sweep-2", {}, print)
    other.abandon("sweep-1")
    found = client.search_runs([experiment.experiment_id])
    statuses = {each.info.run_id: each.info.status for each in found}
    assert statuses.pop(other.parent) == "RUNNING"
    assert list(statuses.values()) == ["KILLED"] * (FEW + 1)
    assert other.close(PATIENCE_S)


def test_a_sweep_that_cannot_begin_leaves_no_running_run(
    store: Path, swept: tuple[Params, ImageData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is written nowhere yet, by which another command would find the run."""

    def away(*_: Any, **__: Any) -> None:
        raise OSError("away")

    monkeypatch.setattr(MlflowClient, "log_batch", away)
    with pytest.raises(GaitError, match="away"):
        SweepRuns(*swept, "sweep-3", {}, print)
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("digits-sweeps")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`gait.sweep_id` = 'sweep-3'")
    assert run.info.status == "FAILED"


def trials(swept: tuple[Params, ImageData], epochs: int, count: int = FEW) -> list[Record]:
    params, images = swept
    return [
        Record(
            trial=trial_id(params, each, images),
            rule=each.rule,
            values=each.values,
            status="RUNNING",
            epochs=[epoch(number, k) for k in range(epochs)],
            failure=None,
            started_ms=1_000,
            ended_ms=2_000_000,
            facts={"node": "n1"},
        )
        for number, each in enumerate(search_space.configurations(params)[:count])
    ]


def epoch(trial: int, number: int) -> Epoch:
    def row(seed: int) -> dict[str, float]:
        figures = {"validation_loss": 1 / (number + 1), "validation_accuracy": trial / 100 + seed}
        return {"epoch": number, "seed": seed, **figures}

    return Epoch(number, 1_000_000 + number, [row(0), row(1)])


def stored(store: Path) -> tuple[MlflowClient, dict[str, Run], Run]:
    """The runs of the trials, and the sweep's."""
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("digits-sweeps")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    (parent,) = (run for run in found if run.data.tags["gait.level"] == "sweep")
    nested = [run for run in found if run.data.tags["gait.level"] == "trial"]
    by_trial = {run.data.tags["gait.trial"]: run for run in nested}
    assert len(by_trial) == len(nested)
    return client, by_trial, parent


def check(
    store: Path, swept: tuple[Params, ImageData], status: str, epochs: int, count: int = FEW
) -> None:
    client, runs, parent = stored(store)
    expected = trials(swept, epochs, count)
    assert set(runs) == {each.trial for each in expected}
    for number, each in enumerate(expected):
        run = runs[each.trial]
        assert run.info.status == status
        rate = each.configuration.values["rule.learning_rate"]
        assert run.info.run_name.startswith(f"BP, learning rate {rate:g}".replace("e-0", "e-"))
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (
            float(run.data.params["rule.learning_rate"])
            == (each.configuration.values["rule.learning_rate"])
        )
        for metric in ("validation_accuracy", "validation_loss"):
            history = client.get_metric_history(run.info.run_id, metric)
            assert [point.step for point in history] == list(range(epochs))
        accuracy = client.get_metric_history(run.info.run_id, "validation_accuracy")
        assert [point.value for point in accuracy] == pytest.approx([number / 100 + 0.5] * epochs)


def test_32_trials_at_once_in_sqlite(store: Path, swept: tuple[Params, ImageData]) -> None:
    said: list[str] = []
    runs = opened(swept, said)
    for known in range(1, EPOCHS + 1):
        for running in trials(swept, known, TRIALS):
            runs.going(running)
        time.sleep(0.1)
    for running in trials(swept, EPOCHS, TRIALS):
        runs.ended(replace(running, status="FINISHED"))
    assert runs.close(PATIENCE_S)
    assert runs.end("FINISHED", {"best_validation_accuracy_mean": 0.5}, None)
    assert not said
    check(store, swept, "FINISHED", EPOCHS, TRIALS)
    _, nested, parent = stored(store)
    assert parent.data.metrics == {"best_validation_accuracy_mean": 0.5}
    assert runs.ids == {trial: run.info.run_id for trial, run in nested.items()}
    run = nested[trials(swept, 1, TRIALS)[7].trial]
    assert run.data.metrics["validation_accuracy_seed_1"] == pytest.approx(1.07)


def test_a_slow_store_is_waited_for_while_runs_arrive(
    store: Path, swept: tuple[Params, ImageData], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = MlflowClient.log_batch

    def slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.15)
        return at_once(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", slowly)
    runs = opened(swept, [])
    for running in trials(swept, EPOCHS, TRIALS):
        runs.ended(replace(running, status="FINISHED"))
    # All of them take longer than is waited for any one, and a hiccup of this machine does not.
    assert 0.15 * TRIALS > 4
    assert runs.close(4)
    check(store, swept, "FINISHED", EPOCHS, TRIALS)


def test_a_driver_that_is_stopped_does_not_wait_for_all(
    store: Path, swept: tuple[Params, ImageData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives is no reason: a scheduler's patience ends, and `--resume` sends the rest."""
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *_, **__: time.sleep(0.5))
    runs = opened(swept, [])
    for running in trials(swept, EPOCHS, TRIALS):
        runs.ended(replace(running, status="FINISHED"))
    began = time.monotonic()
    assert not runs.close(2, 2)
    assert time.monotonic() - began < 8


def test_a_store_that_is_locked_for_a_while(
    store: Path, swept: tuple[Params, ImageData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the database: told once, and everything arrives afterwards, once."""
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    said: list[str] = []
    runs = opened(swept, said)
    for running in trials(swept, 2):
        runs.going(running)
    deadline = time.monotonic() + PATIENCE_S
    while runs.sender._waiting:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with closing(sqlite3.connect(store, isolation_level=None, timeout=60)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        for running in trials(swept, EPOCHS):
            runs.ended(replace(running, status="FINISHED"))
        while not said:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        lock.execute("ROLLBACK")
    assert runs.close(PATIENCE_S)
    assert "cannot be written" in said[0]
    assert said[1:] == ["MLflow can be written again"]
    check(store, swept, "FINISHED", EPOCHS)


def test_a_resumed_sweep_goes_on_with_its_runs(
    store: Path, swept: tuple[Params, ImageData]
) -> None:
    first = opened(swept, [])
    for running in trials(swept, 3):
        first.going(running)
    assert first.close(PATIENCE_S)
    assert first.end("KILLED", {}, None)
    check(store, swept, "KILLED", 3)

    second = opened(swept, [])
    # Trained again from an earlier state, later than before: an epoch keeps its first point.
    again = [
        replace(each, epochs=[replace(e, ended_ms=e.ended_ms + 7_000) for e in each.epochs])
        for each in trials(swept, EPOCHS)
    ]
    for running in again:
        second.going(running)
        second.ended(replace(running, status="FINISHED"))
    assert second.close(PATIENCE_S)
    check(store, swept, "FINISHED", EPOCHS)
    assert second.parent == first.parent

    # And what is complete is left as it is.
    third = opened(swept, [])
    for running in again:
        third.ended(replace(running, status="FINISHED"))
    assert third.close(PATIENCE_S)
    check(store, swept, "FINISHED", EPOCHS)


def test_a_sweep_that_has_ended_has_no_running_trial(
    store: Path, swept: tuple[Params, ImageData]
) -> None:
    """Its first driver was killed, and Optuna drew others instead of what was under way."""
    killed = opened(swept, [])
    for each in trials(swept, 1):
        killed.going(each)
    assert killed.close(PATIENCE_S)
    client, found, _ = stored(store)
    for run in found.values():
        client.update_run(run.info.run_id, status="RUNNING")
    second = opened(swept, [])
    done = trials(swept, EPOCHS)[0]
    second.ended(replace(done, status="FINISHED"))
    assert second.close(PATIENCE_S)
    assert second.end("FINISHED", {}, None)
    _, found, parent = stored(store)
    statuses = {trial: run.info.status for trial, run in found.items()}
    assert statuses.pop(done.trial) == parent.info.status == "FINISHED"
    assert set(statuses.values()) == {"KILLED"}


def test_the_list_of_runs_tells_sweeps_apart(store: Path, swept: tuple[Params, ImageData]) -> None:
    """Trials of two sweeps may have the same rule and values, and then the same name."""
    params, images = swept
    other = params.model_copy(update={"sweep": params.sweep.model_copy(update={"name": "other"})})
    for number, each in enumerate((params, other)):
        runs = SweepRuns(each, images, f"sweep-{number}", {}, print)
        runs.ended(replace(trials(swept, 1)[0], status="FINISHED"))
        assert runs.close(PATIENCE_S)
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("digits-sweeps")
    assert experiment is not None
    wanted = "tags.`gait.level` = 'trial' and tags.`gait.sweep` = 'other'"
    (run,) = client.search_runs([experiment.experiment_id], wanted)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert {each.data.tags["gait.sweep_id"] for each in (run, parent)} == {"sweep-1"}
    assert parent.data.tags["gait.sweep"] == "other"
    assert "tags.`gait.sweep`" in json.loads(experiment.tags[run_view.TAG])["selectedColumns"]


def test_how_trials_end(store: Path, swept: tuple[Params, ImageData]) -> None:
    runs = opened(swept, [])
    one, two, three, four = trials(swept, 2)[:4]
    runs.ended(replace(one, status="FAILED", failure="training diverged"))
    runs.ended(replace(two, status="STOPPED"))
    runs.lost(replace(three, status="FAILED", failure="its workers died"))
    runs.going(four)
    assert runs.close(PATIENCE_S)
    _, found, _ = stored(store)
    ends = [(found[t.trial].info.status, found[t.trial].data.tags) for t in (one, two, three, four)]
    assert [status for status, _ in ends] == ["FAILED", "FINISHED", "FAILED", "KILLED"]
    outcomes = [tags["gait.outcome"] for _, tags in ends]
    assert outcomes == ["FAILED", "STOPPED", "FAILED", "KILLED"]
    assert [tags.get("gait.failure") for _, tags in ends[:3]] == [
        "training diverged",
        None,
        "its workers died",
    ]
    assert "validation_accuracy_seed_0" not in found[one.trial].data.metrics

    # Who goes on with the one that was lost may fail for another reason, in a moment.
    resumed = opened(swept, [])
    resumed.ended(replace(three, status="FAILED", failure="training diverged"))
    assert resumed.close(PATIENCE_S)
    _, found, _ = stored(store)
    assert found[three.trial].data.tags["gait.failure"] == "training diverged"

    # Or ends it well, and it no longer says that it failed.
    resumed = opened(swept, [])
    resumed.ended(replace(three, status="FINISHED"))
    assert resumed.close(PATIENCE_S)
    _, found, _ = stored(store)
    assert found[three.trial].info.status == "FINISHED"
    assert "gait.failure" not in found[three.trial].data.tags
