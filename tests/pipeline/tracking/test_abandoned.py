"""A training that was killed and that nothing goes on with is not RUNNING for ever."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.tracking import delivery
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.trained import STATE, check_one_history, runs

EPOCHS = 60
TRAIN = ("train", "digits", "square", "gait")
PATIENCE_S = 60


def test_its_runs_are_ended_and_it_can_go_on(
    tmp_path: Path,
    new_project: Callable[..., Path],
    helper: Preloaded,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = new_project(tmp_path / "project", EPOCHS)
    process = helper.start(folder, *TRAIN, GAIT_STATE_INTERVAL_S="0")
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / STATE / "state.pt").exists():
        assert time.monotonic() < deadline, process.output
        time.sleep(0.005)
    process.send(signal.SIGKILL)
    process.wait()
    monkeypatch.chdir(folder)

    # As long as a process has it, it is that one's.
    with FileLock(folder / STATE / ".lock"):
        delivery.end_abandoned("digits")
    assert {each.info.status for each in runs(folder)} == {"RUNNING"}
    assert capsys.readouterr().err == ""

    delivery.end_abandoned("digits")
    assert {each.info.status for each in runs(folder)} == {"KILLED"}
    said = capsys.readouterr().err
    assert said.startswith("digits/square/gait: a training was broken off, and nothing goes on")
    assert "`gait train digits square gait` would go on" in said
    delivery.end_abandoned("digits")
    assert capsys.readouterr().err == ""

    assert "goes on after epoch" in helper.run(folder, *TRAIN)
    check_one_history(folder, EPOCHS)
