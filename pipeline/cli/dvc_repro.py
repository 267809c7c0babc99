"""`dvc repro` within this process, so that stopping it stops the stage that it runs."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

import psutil

from pipeline.project.interruption import Interrupted


class Step(NamedTuple):
    """A stage that `dvc repro` would run; ``surely`` not, if only what comes before it would."""

    stage: str
    command: str
    surely: bool


def plan() -> list[Step]:
    """What `dvc repro` would run, in its order; `dvc repro --dry` stops where a file is missing."""
    import networkx
    from dvc.repo import Repo

    with Repo() as repo:
        changed = repo.status()
        stages = {stage: place for place, stage in enumerate(repo.index.stages)}
        # From a stage to what it needs.
        needs = repo.index.graph
        order = networkx.lexicographical_topological_sort(needs.reverse(), key=stages.__getitem__)
        found: dict[str, Step] = {}
        for stage in order:
            name = stage.addressing
            if name in changed or any(each.addressing in found for each in needs.successors(stage)):
                commands = stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]
                found[name] = Step(name, " && ".join(commands), name in changed)
    return list(found.values())


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
