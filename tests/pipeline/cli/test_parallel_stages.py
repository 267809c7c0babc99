"""`gait repro --jobs`: trainings at once, under a real DVC; `make test-kills` stops them, too."""

from __future__ import annotations

import json
import multiprocessing.context
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.cli import parallel_stages
from pipeline.cli.dvc_repro import Step
from pipeline.params import params_file
from pipeline.project.interruption import Interrupted
from tests.pipeline.project_copy import REPOSITORY, commit, copy_project, dvc, gait
from tests.pipeline.trained import check_nothing_left

REFERENCE = "reference@digits-digits-square"
BP, GAIT = "train@digits-digits-square-bp", "train@digits-digits-square-gait"


def trainings_alone(folder: Path, epochs: int) -> Path:
    """A project whose models are trained, and that is all."""
    made = copy_project(folder)
    params, stages = made / "params.yaml", made / "dvc.yaml"
    params.write_text(params.read_text().replace("epochs: 2", f"epochs: {epochs}"))
    text = stages.read_text()
    stages.write_text(text[: text.index("\n  evaluate:\n") + 1])
    commit(made)
    return made


@contextmanager
def repro(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`gait repro --jobs 2`, once two of its trainings keep states; `said` is what it says."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAIT_"))}
    own = {"PATH": path, "OMP_NUM_THREADS": "1", "GAIT_STATE_INTERVAL_S": "0.1"}
    command = [sys.executable, "-m", "pipeline", "repro", "--jobs", "2"]
    with (
        (folder / "said").open("wb") as said,
        subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, **own},
            stdout=said,
            stderr=said,
            start_new_session=True,
        ) as process,
    ):
        while process.poll() is None and len(states(folder)) < 2:
            time.sleep(0.05)
        yield process


def wait_until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not seen() and time.monotonic() < deadline:
        time.sleep(0.1)


def states(folder: Path) -> list[Path]:
    return list((folder / "states").rglob("state.pt"))


@pytest.mark.long
def test_one_fails_and_the_rest_is_trained_at_once_to_the_same_bits(tmp_path: Path) -> None:
    """One is killed, as where memory ends."""
    folder = trainings_alone(tmp_path / "project", 150)
    with repro(folder) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        stages = {each.cmdline()[-1]: each for each in children if "square" in each.cmdline()}
        assert set(stages) == {"bp", "gait"}
        for each in stages.values():
            each.suspend()
        # Meanwhile another finds them at work.
        assert "is busy" in gait(folder, "repro", "--jobs", "2", code=2)
        stages["bp"].kill()
        stages["bp"].wait(60)
        # `gait repro` hears of it before the other can end.
        wait_until(lambda: "failed to reproduce" in (folder / "said").read_text())
        stages["gait"].resume()
        code = process.wait(120)
    said = (folder / "said").read_text()
    assert code == 255, said
    assert f"failed to reproduce '{BP}'" in said
    assert said.endswith(f"failed: {BP}; no stage was begun since\n")
    assert REFERENCE not in said
    recorded = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    assert GAIT in recorded
    assert BP not in recorded
    said = gait(folder, "repro", "--jobs", "2")
    assert "goes on after epoch" in said
    # Both had begun before any of them ended.
    began = [said.index(f"Running stage '{stage}'") for stage in (BP, REFERENCE)]
    assert max(began) < said.index(" epochs in")
    lock = (folder / "dvc.lock").read_text()
    again = ("--force", "--no-run-cache", "--single-item", GAIT)
    assert "Running stage" in dvc(folder, "repro", *again)
    assert (folder / "dvc.lock").read_text() == lock
    assert json.loads(dvc(folder, "status", "--json")) == {}
    check_nothing_left(folder)


def test_further_arguments_are_for_one_stage_after_the_other(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    assert gait(folder, "repro", "--jobs", "2", "--force", code=2).strip() == (
        "gait: --jobs: received 2 beside --force; allowed: no further arguments, with which `dvc"
        " repro` runs one stage after the other"
    )
    assert "greater than or equal to" in gait(folder, "repro", "--jobs", "0", code=2)


def step(stage: str, *needs: str) -> Step:
    return Step(stage, f"python -m pipeline {stage}", True, frozenset(needs))


def test_two_trainings_are_worth_it_references_last() -> None:
    steps = [step("download@d"), step("reference@r", "download@d"), step("train@t", "download@d")]
    rest = [step("evaluate@e", "reference@r", "train@t"), step("evidence@e")]
    references_last = [steps[0], steps[2], steps[1]]
    assert parallel_stages.trainings([*steps, *rest]) == references_last
    # Also of a stage that somebody has added, and of what that needs.
    own = [step("fetch@x"), step("clean@x", "fetch@x"), step("train@x", "clean@x")]
    expected = [*own, *references_last]
    assert parallel_stages.trainings([step("count@x", "fetch@x"), *own, *steps]) == expected
    assert parallel_stages.trainings([*steps[:2], *rest]) == []
    assert parallel_stages.trainings(steps[1:]) == references_last[1:]


def test_a_signal_before_the_first_stage_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the loop has looked, and signals do not wait yet."""
    masked = signal.pthread_sigmask

    def late(how: int, signals: set[signal.Signals]) -> set[signal.Signals]:
        if how == signal.SIG_BLOCK:
            signal.raise_signal(signal.SIGTERM)
        return masked(how, signals)  # type: ignore[return-value]

    monkeypatch.setattr(signal, "pthread_sigmask", late)
    with pytest.raises(Interrupted):
        parallel_stages.run([step("train@t")], 1)


def test_a_signal_that_another_thread_takes_reaches_a_stage_that_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its handler runs before the new process is known."""
    forked = multiprocessing.context.ForkProcess
    begin = forked.start

    def start(process: multiprocessing.context.ForkProcess) -> None:
        begin(process)
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)

    def sleeping(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        time.sleep(60)

    monkeypatch.setattr(forked, "start", start)
    monkeypatch.setattr(parallel_stages, "_run_one", sleeping)
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        parallel_stages.run([step("train@t")], 1)
    assert time.monotonic() - begun < 30


def test_cores_divided_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    params = params_file.load(REPOSITORY / "profiles" / "digits.yaml")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)

    def jobs(threads: int | None) -> int:
        training = params.training.model_copy(update={"threads": threads})
        return parallel_stages.default_jobs(params.model_copy(update={"training": training}))

    assert [jobs(threads) for threads in (1, 3, 8, 16, None)] == [8, 2, 1, 1, 1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert jobs(1) == 1
