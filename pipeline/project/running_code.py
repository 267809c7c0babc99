"""The code that runs is the code that is recorded: a clone is never served by another's code."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pipeline.project.errors import GaitError

PACKAGES = ("gaitprop", "pipeline")


def check() -> None:
    """Looks whether the packages that Python finds are this folder's, if it has its own.

    Runs say the commit and state of the folder's tree, which says nothing of code from elsewhere:
    of another clone, say, whose environment is active.

    Raises:
        GaitError: they are not.
    """
    here = {name: Path(name, "__init__.py").resolve() for name in PACKAGES}
    if not all(path.is_file() for path in here.values()):
        return
    for name, own in here.items():
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found is not None and found != own:
            raise GaitError(
                f"the code that would run is {found.parent}, and this folder has its own,"
                f" {own.parent}, which is what runs would record: activate this folder's"
                " environment (`make setup` makes one), or run `python -m pipeline` here"
            )
