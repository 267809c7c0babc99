"""Trainings of DVC's stages at once, each as `dvc repro` of that stage alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Any

from pipeline.cli import dvc_repro
from pipeline.cli.dvc_repro import Step
from pipeline.project.interruption import Interrupted

if TYPE_CHECKING:
    from pipeline.params.schema import Params

REFERENCE = "reference"
TRAININGS = (REFERENCE, "train")
ENDING = (signal.SIGTERM, signal.SIGINT)


def run_trainings(params: Params, jobs: int | None) -> int:
    """Runs the trainings that `dvc repro` would run, and what they wait for, several at once.

    So many as ``jobs``, or as there are cores for. Gives the exit code of the first that failed;
    else 0, also where nothing could run at once, and nothing has run.

    Raises:
        GaitError: DVC cannot say what there is to do, or the device is not there.
        Interrupted: SIGTERM came, and went to the stages.
    """
    if jobs == 1:
        return 0
    from tqdm import tqdm

    # Its thread may hold a lock of tqdm's just when a process is forked, and that lock for ever.
    tqdm.monitor_interval = 0
    steps = trainings(dvc_repro.plan())
    if not steps:
        return 0
    jobs = jobs or default_jobs(params)
    return run(steps, jobs) if jobs > 1 else 0


def default_jobs(params: Params) -> int:
    """As many trainings as this machine has cores for; one on a GPU, which they would share."""
    import torch

    from pipeline.training.experiment import choose_device

    # Of macOS, Python's documentation says that processes had better not be forked.
    if choose_device(params.training.device).type != "cpu" or sys.platform == "darwin":
        return 1
    cores = torch.get_num_threads()
    return max(1, cores // (params.training.threads or cores))


def trainings(steps: Sequence[Step]) -> list[Step]:
    """The trainings among stages, and what they wait for, in the same order, references last.

    Their steps are the shortest of all, so that the cores have work for longest. Of fewer than two
    trainings: none.
    """
    chosen: list[Step] = []
    needed: set[str] = set()
    for step in reversed(steps):
        if step.kind in TRAININGS or step.stage in needed:
            chosen.insert(0, step)
            needed |= step.needs
    if sum(step.kind in TRAININGS for step in chosen) < 2:
        return []
    return sorted(chosen, key=lambda step: step.kind == REFERENCE)


def run(steps: Sequence[Step], jobs: int) -> int:
    """Runs stages in processes of their own, each as soon as those that it needs are done.

    Once one has failed none is begun; those that run are waited for. Gives 0, or the exit code of
    the first that failed; raises ``Interrupted`` where SIGTERM came, and went to the stages.
    """
    # Processes begin with DVC and PyTorch loaded.
    fork = multiprocessing.get_context("fork")
    waiting = list(steps)
    running: dict[BaseProcess, Step] = {}
    failed: dict[str, int] = {}
    stopped = False

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        for process in running:
            process.terminate()

    # The terminal sends Ctrl-C to the stages, too: they put their work away.
    before: dict[signal.Signals, Any] = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    try:
        while running or (waiting and not failed and not stopped):
            unfinished = {step.stage for step in (*waiting, *running.values())}
            ready = [step for step in waiting if unfinished.isdisjoint(step.needs)]
            for step in ready[: jobs - len(running)]:
                # Signals wait until the new process is known, and has its own way to take them.
                signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
                try:
                    if stopped or failed:
                        break
                    arguments = (step.stage, before[signal.SIGINT])
                    process = fork.Process(target=_run_one, args=arguments)
                    process.start()
                    running[process] = step
                    waiting.remove(step)
                    # Another thread may have taken the signal before the process was known.
                    if stopped:
                        process.terminate()
                finally:
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            # Of nothing one would wait for ever.
            done = wait([process.sentinel for process in running]) if running else []
            for ended in [each for each in running if each.sentinel in done]:
                ended.join()
                name = running.pop(ended).stage
                if ended.exitcode:
                    failed[name] = ended.exitcode
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped:
        raise Interrupted(signal.SIGTERM, "stopped by SIGTERM; `gait repro` goes on from there")
    if not failed:
        return 0
    # Said long ago, if others have trained since.
    print(f"failed: {', '.join(failed)}; no stage was begun since", file=sys.stderr)
    code = next(iter(failed.values()))
    return code if code > 0 else 128 - code


def _run_one(stage: str, on_interrupt: Any) -> None:
    """The whole life of a process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, on_interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    # Lines that say whose they are: bars of several processes would overwrite each other.
    os.environ["TTY_COMPATIBLE"] = "0"
    try:
        # Without waiting it would fail after 3 s where another one writes.
        code = dvc_repro.run(["--wait-for-lock", "repro", "--single-item", stage])
    except Interrupted as error:
        code = error.exit_code
    sys.exit(code)
