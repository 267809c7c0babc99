"""`dvc repro` within this process, so that stopping it stops the stage that it runs."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType

import psutil

from pipeline.project.interruption import Interrupted


def run(arguments: Sequence[str]) -> int:
    """Runs `dvc repro`; returns its exit code.

    DVC leaves a stage running when it is ended. Here SIGTERM goes to the stage, which puts its
    work away, and DVC ends with it.

    Raises:
        Interrupted: SIGTERM came.
    """
    from dvc.cli import main as dvc

    stopped = False

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        stages = psutil.Process().children(recursive=True)
        for stage in stages:
            stage.send_signal(number)
        if not stages:
            # DVC knows this one: it ends in good order.
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        code = int(dvc(["repro", *arguments]))
    finally:
        signal.signal(signal.SIGTERM, before)
    if stopped:
        raise Interrupted(signal.SIGTERM, "stopped by SIGTERM; `gait repro` goes on from there")
    return code
