"""The code that runs is the code that is recorded: a clone is never served by another's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pipeline.project.errors import GaitError
from pipeline.project.source import CODE


def check() -> None:
    """GaitError unless the packages that Python finds are this folder's, if it has its own.

    Runs say the commit and state of the folder's tree, which says nothing of code from elsewhere:
    of another clone, say, whose environment is active.
    """
    here = {name: Path(name, "__init__.py").resolve() for name in CODE}
    if not all(path.is_file() for path in here.values()):
        return
    for name, own in here.items():
        spec = find_spec(name)
        if spec and spec.origin and (found := Path(spec.origin).resolve()) != own:
            raise GaitError(
                f"the code that would run is {found.parent}, and this folder has its own,"
                f" {own.parent}, which is what runs would record: activate this folder's"
                " environment (`make setup` makes one), or run `python -m pipeline` here"
            )


@contextmanager
def unchanged(deciding: Callable[[], object]) -> Iterator[None]:
    """Sees to it that a result is not recorded with what decides it only since it was begun.

    DVC notes the code and params.yaml as they are when a stage ends. GaitError if what decides the
    result is then not what it was when the block was entered; the result stays.
    """
    before = deciding()
    yield
    try:
        now: object = deciding()
    except (GaitError, KeyError):
        now = None  # params.yaml says what is not allowed any more, or nothing of this model.
    if now != before:
        raise GaitError(
            "params.yaml, or the code that decides this result, changed while it was made, and it"
            " would be recorded as made by what is there now: run the same command again, or undo"
            " the change and keep the result by `dvc commit`"
        )
