"""What cannot be delivered is kept, said and sent again, whatever the reason is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.tracking import sending
from pipeline.tracking.sending import Sender
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import gait
from tests.pipeline.trained import STATE, check_one_history

INTERVAL_S, PATIENCE_S = 0.01, 5.0


def test_no_exception_ends_the_sending() -> None:
    said: list[str] = []
    arrived: list[str] = []

    def send(record: str) -> None:
        if not said:
            raise RuntimeError("no such package")
        arrived.append(record)

    def forget() -> None:
        arrived.append("forgotten")

    sender = Sender(send, forget, "training", said.append, INTERVAL_S)
    sender.put("a", "record")
    assert sender.close(PATIENCE_S)
    assert arrived == ["forgotten", "record"]
    assert sender.problem is None and said[-1] == "MLflow can be written again"
    assert "no such package" in said[0] and "training goes on" in said[0]


def test_what_comes_while_something_is_sent_is_sent_too() -> None:
    arrived: list[str] = []

    def send(record: str) -> None:
        arrived.append(record)
        if record == "first":
            sender.put("a", "second")

    sender = Sender(send, lambda: None, "training", lambda _: None, INTERVAL_S)
    sender.put("a", "first")
    assert sender.close(PATIENCE_S)
    assert arrived == ["first", "second"]


def test_one_that_the_store_never_takes_keeps_no_other_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "LAST_PAUSE_S", 0.01)
    arrived: list[str] = []

    def send(record: str) -> None:
        if record == "bad":
            raise ValueError("too long")
        arrived.append(record)

    sender = Sender(send, lambda: None, "the sweep", lambda _: None, INTERVAL_S)
    for record in ("bad", "b", "c", "d"):
        sender.put(record, record)
    assert not sender.close(1.0)
    assert arrived == ["b", "c", "d"]
    assert sender.problem == "too long"


def test_a_store_that_takes_some_is_not_said_to_take_none() -> None:
    said: list[str] = []

    def send(record: str) -> None:
        if record == "bad":
            raise ValueError("too long")
        sender.put("bad", "bad")

    sender = Sender(send, lambda: None, "the sweep", said.append, INTERVAL_S)
    sender.put("good", "good")
    assert not sender.close(0.1)
    assert "does not take everything (too long); the sweep goes on" in said[0]


def test_what_never_arrives_is_not_called_delivered() -> None:
    def send(record: str) -> None:
        raise KeyError(record)

    sender = Sender(send, lambda: None, "training", lambda _: None, INTERVAL_S)
    sender.put("a", "record")
    assert not sender.close(0.1)
    assert sender.problem == "'record'"


def test_a_store_that_does_not_answer_is_the_reason() -> None:
    answered = threading.Event()

    def send(record: str) -> None:
        answered.wait()

    sender = Sender(send, lambda: None, "training", lambda _: None, INTERVAL_S)
    sender.put("a", "record")
    try:
        assert not sender.close(0.1)
        assert sender.problem == "nothing arrived there within 0.1 s"
    finally:
        answered.set()


def test_a_notebooks_shell(tmp_path: Path, new_project: Callable[..., Path]) -> None:
    project = new_project(tmp_path / "project")
    backend = "module://a_notebooks.backend_inline"
    patient = {"GAIT_MLFLOW_PATIENCE_S": "180"}
    said = gait(project, "train", "digits", "square", "gait", MPLBACKEND=backend, **patient)
    assert "lacks" not in said and "Traceback" not in said
    check_one_history(project, epochs=2)


def test_a_record_that_the_store_never_takes_blocks_nothing(
    tmp_path: Path, new_project: Callable[..., Path], helper: Preloaded
) -> None:
    project = new_project(tmp_path / "project")
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    client.create_experiment("digits", artifact_location="file:///proc/nothing")
    impatient = {"GAIT_MLFLOW_PATIENCE_S": "1"}
    helper.run(project, "train", "digits", "square", "gait", **impatient)
    (kept,) = (project / STATE / "undelivered").iterdir()
    said = helper.run(project, "train", "digits", "square", "reference", **impatient)
    assert f"{kept.relative_to(project)} is kept" in said
    assert kept.exists() and (project / "models/digits/digits/square/reference").is_dir()
