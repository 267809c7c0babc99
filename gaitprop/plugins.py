"""What other packages offer under entry points; nothing of theirs is imported before it is used.

Errors name the package: who reads them should know at once that it is not this one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from gaitprop.errors import ArgumentError

# Names become folders, DVC's stages and keys of params.yaml.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@cache
def offered(group: str, taken: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """The entry points of a group by name, in alphabetical order.

    Args:
        group: of entry points, e.g. ``"gaitprop.rules"``.
        taken: names that no package may offer.

    Raises:
        ArgumentError: a package offers a name that is taken, that another offers too, or that is
            no name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        if entry.name in taken:
            raise ArgumentError(
                f"{told(entry)} has a name that is taken; allowed: any but {', '.join(taken)}"
            )
        if entry.name in found:
            raise ArgumentError(
                f"{told(entry)} is offered by {package(found[entry.name])} too; allowed: one"
                " package for a name"
            )
        if not _NAME.fullmatch(entry.name):
            raise ArgumentError(
                f"{told(entry)} has no allowed name; allowed: a letter, then letters, digits and _,"
                " all of them small, 40 at most"
            )
        found[entry.name] = entry
    return found


def load(entry: EntryPoint) -> Any:
    """What the entry point names; what its module prints meanwhile goes to standard error.

    Raises:
        ArgumentError: its module cannot be imported or lacks the name.
    """
    try:
        # Standard output may be a program's alone, such as one JSON document.
        with contextlib.redirect_stdout(sys.stderr):
            return entry.load()
    except (Exception, SystemExit) as error:
        raise ArgumentError(f"{told(entry)} cannot be loaded: {reason(error)}") from error


def source(entry: EntryPoint) -> Path:
    """The folder of the package that the entry point is in, or the file of a module by itself.

    Raises:
        ArgumentError: there is no such package.
    """
    name, *inner = entry.module.split(".")
    try:
        spec = importlib.util.find_spec(name)
        # Of a namespace, which packages share, the first part that is this package's own.
        while spec is not None and spec.origin is None and inner:
            name = f"{name}.{inner.pop(0)}"
            spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ArgumentError(f"{told(entry)} cannot be loaded: there is no module {entry.module}")
    origin = Path(spec.origin).resolve()
    return origin.parent if spec.submodule_search_locations else origin


def package(entry: EntryPoint) -> str:
    """The distribution's name and version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "unknown"


def told(entry: EntryPoint) -> str:
    """What an error calls it."""
    return f"{entry.name!r} ({entry.group}) of the package {package(entry)}"


def reason(error: BaseException, within: Path | None = None) -> str:
    """An exception of somebody else's code in one line, with the place that it comes from.

    Args:
        error: as caught.
        within: the package's folder or file, where the place is looked for.
    """
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename
    ]
    if within is not None:
        own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(within)]
        # What it returned may be wrong: then no line of it raised anything.
        return (
            f"{said} ({own[-1].filename}, line {own[-1].lineno})" if own else f"{said} ({within})"
        )
    # The first frame is the caller's.
    return f"{said} ({frames[-1].filename}, line {frames[-1].lineno})" if frames[1:] else said
