"""A training that is killed goes on where it was: same bits, same MLflow runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.pipeline.preloaded import Preloaded, Process
from tests.pipeline.trained import MODEL, STATE, check_nothing_left, check_one_history, files, runs

# Enough for a signal to arrive before the end, on a busy machine too.
EPOCHS = 60
TRAIN = ("train", "digits", "square", "gait")
OFTEN = {"GAIT_STATE_INTERVAL_S": "0"}
PATIENCE_S = 60


@pytest.fixture
def reference(uninterrupted: Callable[[int], dict[str, bytes]]) -> dict[str, bytes]:
    return uninterrupted(EPOCHS)


@pytest.fixture
def project(tmp_path: Path, new_project: Callable[..., Path]) -> Path:
    return new_project(tmp_path / "project", EPOCHS)


def wait_for_state(folder: Path, process: Process, newer_than: int = 0) -> None:
    """Until the process has kept a state that is newer."""
    state = folder / STATE / "state.pt"
    deadline = time.monotonic() + PATIENCE_S
    while not state.exists() or state.stat().st_mtime_ns <= newer_than:
        assert time.monotonic() < deadline, process.output
        time.sleep(0.005)


def test_killed_four_times(project: Path, helper: Preloaded, reference: dict[str, bytes]) -> None:
    state, before = project / STATE / "state.pt", 0
    numbers = signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    for number, code in zip(numbers, (-9, 143, 130, 129), strict=True):
        process = helper.start(project, *TRAIN, **OFTEN)
        wait_for_state(project, process, before)
        process.send(number)
        assert process.wait() == code, process.output
        before = state.stat().st_mtime_ns
        assert not (project / MODEL).exists()
        if number != signal.SIGKILL:
            said = process.output.splitlines()
            assert len([line for line in said if line.startswith("gait: ")]) == 1
            assert f"stopped by {number.name} after epoch" in said[-1]
            assert "the same command goes on from there" in said[-1]
            assert {run.info.status for run in runs(project)} == {"KILLED"}
    assert "goes on after epoch" in helper.run(project, *TRAIN)
    assert files(project) == reference
    check_one_history(project, EPOCHS)
    check_nothing_left(project)


def test_states_that_are_not_used(
    project: Path, helper: Preloaded, reference: dict[str, bytes]
) -> None:
    def interrupt() -> None:
        process = helper.start(project, *TRAIN, **OFTEN)
        wait_for_state(project, process)
        process.send(signal.SIGTERM)
        assert process.wait() == 143

    interrupt()
    state = project / STATE / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    assert "is damaged: it is not what was written there; training begins anew" in helper.run(
        project, *TRAIN
    )
    assert files(project) == reference
    check_one_history(project, EPOCHS)

    params = project / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("gamma: 0.001", "gamma: 0.01"))
    interrupt()
    params.write_text(text)
    assert "is a state of other params; training begins anew" in helper.run(project, *TRAIN)
    assert files(project) == reference
    check_nothing_left(project)
    statuses = [run.info.status for run in runs(project)]
    assert statuses.count("FINISHED") == 6
    assert statuses.count("KILLED") == 3
    assert len(statuses) == 9


def test_a_model_is_trained_by_one_process_at_a_time(project: Path, helper: Preloaded) -> None:
    (project / STATE).mkdir(parents=True)
    # What a training before it has left, whose process may be a stranger's by now.
    (project / STATE / "training.json").write_text('{"pid": 4321}')
    with FileLock(project / STATE / ".lock"):
        message = helper.run(project, *TRAIN, code=2)
    assert f"digits/square/gait is being trained by process {os.getpid()}: wait" in message
    assert f"`kill {os.getpid()}`" in message
    assert not (project / MODEL).exists()
    # Whoever held it is gone: nothing has to be removed by hand.
    helper.run(project, *TRAIN)
    check_one_history(project, EPOCHS)
    assert os.listdir(project / MODEL.parent) == ["gait"]
