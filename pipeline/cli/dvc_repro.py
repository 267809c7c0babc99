"""`dvc repro` within this process, so that stopping it stops the stage that it runs."""

from __future__ import annotations

import io
import logging
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

import psutil

from pipeline.project.errors import GaitError
from pipeline.project.interruption import Interrupted
from pipeline.project.nearest_name import did_you_mean

if TYPE_CHECKING:
    from dvc.repo import Repo


# What is misspelt most likely.
OPTIONS = ("--dry-run", "--force", "--jobs", "--keep-going", "--pull", "--single-item")


class Step(NamedTuple):
    """A stage that `dvc repro` would run; ``surely`` not, if only what comes before it would.

    ``needs`` are the stages of which it takes files.
    """

    stage: str
    command: str
    surely: bool
    needs: frozenset[str]

    @property
    def kind(self) -> str:
        """Its name in dvc.yaml."""
        return self.stage.partition("@")[0]


def plan() -> list[Step]:
    """What `dvc repro` would run, in its order; `dvc repro --dry` stops where a file is missing.

    GaitError where DVC cannot say: another one is at work here, or a file of its own is broken.
    """
    import networkx

    with _repository() as repo:
        changed = repo.status()
        stages = {stage: place for place, stage in enumerate(repo.index.stages)}
        # From a stage to what it needs.
        needs = repo.index.graph
        order = networkx.lexicographical_topological_sort(needs.reverse(), key=stages.__getitem__)
        found: dict[str, Step] = {}
        for stage in order:
            name = stage.addressing
            before = frozenset(each.addressing for each in needs.successors(stage))
            if name in changed or not before.isdisjoint(found):
                commands = stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]
                found[name] = Step(name, " && ".join(commands), name in changed, before)
    return list(found.values())


def check_arguments(arguments: Sequence[str]) -> None:
    """GaitError if `dvc repro` knows an option or a stage among its arguments not, or cannot say.

    None of its options takes a value.
    """
    if not arguments:
        return
    for each in arguments:
        if not _is_known(each):
            raise GaitError(
                f"received {each}{did_you_mean(each, OPTIONS)}; allowed: options of `gait repro`"
                " and of `dvc repro`, whose --help lists them"
            )
    targets = [each for each in arguments if not each.startswith("-")]
    if not targets:
        return
    from dvc.exceptions import DvcException

    how = {
        "recursive": not {"-R", "--recursive"}.isdisjoint(arguments),
        "glob": "--glob" in arguments,
    }
    with _repository() as repo:
        names = [stage.addressing for stage in repo.index.stages]
        for target in targets:
            found = []
            with suppress(DvcException):
                found = repo.stage.collect(target, **how)
            # Of none DVC would run everything.
            if not target or not found:
                known = [*names, *(name.partition("@")[0] for name in names)]
                raise GaitError(
                    f"received {target!r}{did_you_mean(target, known)}; allowed: stages, as"
                    " `dvc stage list` names them"
                )


def _is_known(argument: str) -> bool:
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    logging.disable()
    try:
        # Of the beginning of several options it would tell all of its usage.
        with redirect_stdout(io.StringIO()):
            return not get_main_parser().parse_known_args(["repro", argument])[1]
    except (DvcParserError, SystemExit):  # It ends where it takes one for --help.
        return False
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _repository() -> Iterator[Repo]:
    """What DVC knows of this folder."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield repo
    except (DvcException, sqlite3.Error) as error:
        raise GaitError(f"DVC cannot say what there is to do: {error}") from None


def run(arguments: Sequence[str]) -> int:
    """Runs `dvc` with these arguments, of `repro`; returns its exit code.

    DVC leaves a stage running when it is ended. Here SIGTERM goes to the stage, which puts its
    work away, DVC ends with it, and ``Interrupted`` is raised.
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
        code = int(dvc([*arguments]))
    finally:
        signal.signal(signal.SIGTERM, before)
    if stopped:
        raise Interrupted(signal.SIGTERM, "stopped by SIGTERM; `gait repro` goes on from there")
    return code
