"""A trial that is broken off goes on from its last state, to the bits of one that was not."""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from gaitprop import numerics
from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.params.search_space import Configuration
from pipeline.project.errors import GaitError
from pipeline.sweep import trial_records
from pipeline.sweep.collect import Collector
from pipeline.sweep.trial import Task, attempt
from pipeline.sweep.trial_records import Record, trial_id
from pipeline.training import state_file
from pipeline.training.identity import training_code_checksum
from tests.pipeline.project_copy import small_params

EPOCHS = 6
SECTION = f"""
sweep:
  rules: [gait]
  space: {{rule.learning_rate: [1.0e-3, 10], architecture.hidden_layers: [1, 20]}}
  fixed: {{training.epochs: {EPOCHS}, training.seeds: [0, 1]}}
"""
GOOD = Configuration("gait", {"rule.learning_rate": 1e-3, "architecture.hidden_layers": 1})
BAD = Configuration("gait", {"rule.learning_rate": 10.0, "architecture.hidden_layers": 20})


class LostError(Exception):
    """The worker is gone."""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("task")
    text = small_params()
    (folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + SECTION)
    image_tensors.prepare("digits", folder / "digits.safetensors", root=folder)
    images = image_tensors.load(folder / "digits.safetensors")
    return Task(params_file.load(folder / "params.yaml"), images, state_s=0, report_s=0)


class Ears:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def going(self, record: Record) -> None:
        self.heard.append(f"going {len(record.epochs)}")

    def ended(self, record: Record) -> None:
        self.heard.append(record.status)

    def lost(self, record: Record) -> None:
        self.heard.append(f"{len(record.epochs)} epochs, {record.failure}")


def reports(task: Task, configuration: Configuration, until: int | None = None) -> list[Any]:
    """All that a worker says, which is lost once it has sent so many reports."""
    said: list[Any] = []

    def send(report: dict[str, Any]) -> None:
        if until is not None and len(said) == until:
            raise LostError
        said.append(report)

    if until is None:
        attempt(configuration, task, {"node": "here"}, send)
    else:
        with pytest.raises(LostError):
            attempt(configuration, task, {"node": "here"}, send)
    return said


def told(task: Task) -> dict[str, str]:
    """What a worker tells of where it is."""
    return {
        "node": "here",
        "device": "cpu",
        "gait.code": training_code_checksum("gait"),
        "version.torch": version("torch"),
        "version.numpy": version("numpy"),
        "numerics": task.params.training.numerics,
        "cpu": numerics.processor(),
        "threads": str(torch.get_num_threads()),
    }


def rows(said: list[Any]) -> list[Any]:
    return [row for report in said for epoch in report["epochs"] for row in epoch["rows"]]


def test_reports_of_every_epoch(task: Task) -> None:
    said = reports(task, GOOD)
    assert [report["epoch"] for report in said] == list(range(EPOCHS + 1))
    assert [report["outcome"] for report in said] == [None] * EPOCHS + ["FINISHED"]
    last = said[-1]["epochs"][-1]["rows"]
    mean = sum(row["validation_accuracy"] for row in last) / 2
    assert said[-1]["validation_accuracy"] == pytest.approx(mean)
    assert said[-1]["facts"] == told(task)


def test_few_reports_of_short_epochs(task: Task) -> None:
    (only,) = reports(replace(task, report_s=1000), GOOD)
    assert [epoch["epoch"] for epoch in only["epochs"]] == list(range(EPOCHS + 1))
    assert rows([only]) == rows(reports(task, GOOD))


def test_a_diverging_trial_reports_its_failure(task: Task) -> None:
    said = reports(task, BAD)
    assert said[-1]["outcome"] == "FAILED"
    assert "training diverged in epoch 1" in said[-1]["failure"]
    assert said[-1]["validation_accuracy"] == 0


def test_early_stopping_reports_the_best_epochs_and_goes_on(task: Task, tmp_path: Path) -> None:
    values = {"rule.learning_rate": 0.02, "training.epochs": 30, "training.patience": 2}
    early = Configuration("gait", values)
    said = reports(task, early)
    table = rows(said)
    assert max(row["epoch"] for row in table) < 30
    last = {row["seed"]: row["kept_epoch"] for row in table}
    kept = [r["validation_accuracy"] for r in table if r["epoch"] == last[r["seed"]]]
    assert said[-1]["validation_accuracy"] == pytest.approx(sum(kept) / 2)
    task = replace(task, states=tmp_path / "states")
    reports(task, early, until=3)
    assert rows(reports(task, early)) == table


@pytest.mark.parametrize("lost_after", [1, 2, 4, EPOCHS])
def test_a_lost_worker_is_taken_over(task: Task, tmp_path: Path, lost_after: int) -> None:
    task = replace(task, states=tmp_path / "states")
    ears = Ears()
    collector = Collector(tmp_path / "trials", {}, {"git.commit": "1"}, task.states, [ears])
    trial = trial_id(task.params, GOOD, task.images)
    collector.started("ray-1", trial, GOOD)
    before = reports(task, GOOD, until=lost_after)
    for report in before:
        collector.reported("ray-1", report)
    after = reports(task, GOOD)
    # It goes on from a state, and begins with a report of every epoch before: early stopping
    # compares after equally many.
    assert [report["epoch"] for report in after] == list(range(EPOCHS + 1))
    told_again = [report["epochs"] for report in after[: len(before)]]
    assert told_again == [report["epochs"] for report in before]
    collector.started("ray-1", trial, GOOD)
    for report in after:
        collector.reported("ray-1", report)
    record = trial_records.read(tmp_path / "trials")[trial]
    assert record == collector.ended[trial]
    whole = rows(reports(replace(task, states=None), GOOD))
    assert [row for epoch in record.epochs for row in epoch.rows] == whole
    assert record.facts == {"git.commit": "1", "ray.trial": "ray-1", **told(task)}
    assert ears.heard[-1] == "FINISHED"
    assert not list((tmp_path / "states").iterdir())


def test_a_damaged_state_is_not_used(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = replace(task, states=tmp_path)
    reports(task, GOOD, until=EPOCHS - 1)
    (state,) = tmp_path.iterdir()
    state.write_bytes(state.read_bytes()[:-100])
    after = reports(task, GOOD)
    assert "is damaged: it is not what was written there; training begins anew" in (
        capsys.readouterr().err
    )
    assert rows(after) == rows(reports(replace(task, states=None), GOOD))


@pytest.mark.parametrize("name", ["code", "torch", "numpy", "device"])
def test_another_versions_state_is_not_used(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    task = replace(task, states=tmp_path)
    reports(task, GOOD, until=EPOCHS - 1)
    (path,) = tmp_path.iterdir()
    state = state_file.read(path, torch.device("cpu"))
    assert state is not None
    assert state["notes"]["identity"][name]
    state["notes"]["identity"][name] = "another"
    state_file.write(path, state, state["notes"])
    after = reports(task, GOOD)
    assert f"is a state of other {name}; training begins anew" in capsys.readouterr().err
    assert len(after) == EPOCHS + 1


def test_what_is_known_is_told_again_without_training(task: Task, tmp_path: Path) -> None:
    collector = Collector(tmp_path / "trials", {}, {}, None, [])
    trial = trial_id(task.params, GOOD, task.images)
    collector.started("ray-1", trial, GOOD)
    said = reports(task, GOOD)
    for report in said:
        collector.reported("ray-1", report)
    again = reports(replace(task, ended=collector.ended), GOOD)
    assert rows(again) == rows(said)
    assert [report["epoch"] for report in again] == [report["epoch"] for report in said]
    # Times and all: nothing was trained.
    (known,) = collector.ended.values()
    assert [epoch for each in again for epoch in each["epochs"]] == list(map(asdict, known.epochs))


@pytest.mark.parametrize("off_ms", [-3_600_000, 3_600_000])
def test_a_nodes_clock_may_be_wrong(task: Task, tmp_path: Path, off_ms: int) -> None:
    """A trial's epochs end between its start and its end, which are the driver's."""
    collector = Collector(tmp_path, {}, {}, None, [])
    collector.started("ray-1", "trial-1", GOOD)

    def send(report: dict[str, Any]) -> None:
        there = [{**each, "ended_ms": each["ended_ms"] + off_ms} for each in report["epochs"]]
        own = {"now_ms": report["now_ms"] + off_ms, "epochs": there}
        collector.reported("ray-1", {**report, **own})

    attempt(GOOD, task, {}, send)
    record = collector.ended["trial-1"]
    times = [record.started_ms, *(each.ended_ms for each in record.epochs), record.ended_ms]
    assert times == sorted(times)


def test_what_fails_while_it_is_prepared_says_by_what(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a sweep with such a trial could not be resumed: by other code, it would seem."""

    def out_of_memory(*_: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("pipeline.sweep.trial.prepare", out_of_memory)
    (said,) = reports(task, GOOD)
    assert (said["outcome"], said["failure"]) == ("FAILED", "MemoryError: no room")
    assert said["facts"].items() >= told(task).items()


def test_what_a_shared_gpu_lacks_is_no_result(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray tries again, when the others may be gone; alone on a GPU it would come again."""

    said = torch.OutOfMemoryError("CUDA out of memory")
    explained = GaitError("there is not enough memory")
    explained.__cause__ = said
    # Here is no GPU to share.
    monkeypatch.setattr("pipeline.sweep.trial.choose_device", lambda _: torch.device("cpu"))
    for error in (said, explained):

        def out_of_memory(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("pipeline.sweep.trial.prepare", out_of_memory)
        for gpus in (0.0, 1.0):
            (report,) = reports(sharing(task, gpus), GOOD)
            assert "memory" in report["failure"]
        with pytest.raises(type(error)):
            reports(sharing(task, 0.5), GOOD)


def sharing(task: Task, gpus: float) -> Task:
    sweep = task.params.sweep
    resources = sweep.resources.model_copy(update={"gpus": gpus})
    own = {"sweep": sweep.model_copy(update={"resources": resources})}
    return replace(task, params=task.params.model_copy(update=own))


def test_a_lost_trial_that_ends_after_all_is_not_missing(task: Task, tmp_path: Path) -> None:
    collector = Collector(tmp_path, {}, {}, None, [])
    said = reports(task, GOOD)
    for number in (1, 2):
        collector.started(f"ray-{number}", "trial-1", GOOD)
        for report in said[: 1 if number == 1 else None]:
            collector.reported(f"ray-{number}", report)
        collector.failed(f"ray-{number}", "its node is gone")
    assert collector.lost == {}
    assert collector.ended["trial-1"].status == "FINISHED"


def test_what_is_trained_again_holds(task: Task, tmp_path: Path) -> None:
    """As on another device, where it has other bits: what was there belongs to no network."""
    collector = Collector(tmp_path, {}, {}, None, [])
    collector.started("ray-1", "trial-1", GOOD)
    for report in reports(task, GOOD)[:-1]:
        collector.reported("ray-1", report)
    fewer = Configuration("gait", {"rule.learning_rate": 0.01, "training.epochs": 2})
    again = reports(task, fewer)
    for report in again:
        collector.reported("ray-1", report)
    record = collector.ended["trial-1"]
    assert [row for epoch in record.epochs for row in epoch.rows] == rows(again)
    times = [record.started_ms, *(each.ended_ms for each in record.epochs), record.ended_ms]
    assert times == sorted(times)


def test_stopped_and_lost_trials(task: Task, tmp_path: Path) -> None:
    ears = Ears()
    collector = Collector(tmp_path, {}, {}, None, [ears])
    said = reports(task, GOOD)
    for number in (1, 2):
        collector.started(f"ray-{number}", f"trial-{number}", GOOD)
        collector.reported(f"ray-{number}", said[0])
        collector.reported(f"ray-{number}", said[1])
    collector.stopped("ray-1")
    collector.failed("ray-2", "its node is gone")
    (record,) = trial_records.read(tmp_path).values()
    assert (record.trial, record.status) == ("trial-1", "STOPPED")
    assert [epoch.epoch for epoch in record.epochs] == [0, 1]
    assert collector.lost == {"trial-2": "its node is gone"}
    assert ears.heard[-2:] == ["STOPPED", "2 epochs, its node is gone"]


def test_a_node_of_other_libraries_trains_nothing(task: Task) -> None:
    """No report: a failed trial would be a result, and Ray may try it on another node."""
    said: list[Any] = []
    other = replace(task, libraries={**task.libraries, "numpy": "1.0.0"})
    with pytest.raises(GaitError, match=r"computes with numpy 1\.0\.0, here \S+ on \S+"):
        attempt(GOOD, other, {}, said.append)
    assert said == []
