"""The environment: variables that are settings, read and checked, and what programs are given."""

from __future__ import annotations

import math
import os
import re
import sys
import urllib.parse
from pathlib import Path

from pipeline.project.errors import GaitError

DATA_ROOT, DATA_MIRROR, COMMIT = "GAIT_DATA_ROOT", "GAIT_DATA_MIRROR", "GAIT_COMMIT"
STATE_INTERVAL_S, PATIENCE_S = "GAIT_STATE_INTERVAL_S", "GAIT_MLFLOW_PATIENCE_S"
TRACKING_URI = "MLFLOW_TRACKING_URI"
ALL = (DATA_ROOT, DATA_MIRROR, COMMIT, STATE_INTERVAL_S, PATIENCE_S, TRACKING_URI)
_DEFAULT_S = {STATE_INTERVAL_S: 30.0, PATIENCE_S: 30.0}
_IN_MEMORY = re.compile(
    r"sqlite(\+\w+)?:(//)?/?(/?:memory:(\?|$)|/?file:(:memory:|.*[?&]mode=memory(&|$))|\?|$)"
)
# Thirty years: what a system waits for is limited.
_LONGEST_S = 1e9


def given(name: str) -> str | None:
    """A variable's text; None if it is not set, or set to nothing."""
    return os.environ.get(name) or None


def present() -> dict[str, str]:
    """Those that are set, and whatever else is named like them, misspelt perhaps."""
    names = [*ALL, *(name for name in sorted(os.environ) if name.startswith("GAIT_"))]
    return {name: os.environ[name] for name in names if name in os.environ}


def seconds(name: str) -> float:
    """A variable that is a length of time, or its default; GaitError if it is no such number."""
    if (text := given(name)) is None:
        return _DEFAULT_S[name]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LONGEST_S:
        raise GaitError(
            f"the environment variable {name}: received {text!r}; allowed: a number of seconds,"
            " 0 to 1e9, such as 30 or 0.5"
        )
    return value


def folder(name: str) -> Path | None:
    """A variable that is a folder, as ``expanded``; None if it is not set."""
    text = given(name)
    return None if text is None else expanded(text, f"the environment variable {name}")


def expanded(text: str, name: str) -> Path:
    """A folder as a shell takes it: ``~`` is a home; GaitError if its user has none."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise GaitError(
            f"{name}: received {text!r}; allowed: a folder, and the home of that user is not known"
        ) from None


def check() -> None:
    """Reads them all, before any work; GaitError if one of them says what is not allowed."""
    if sys.flags.optimize > 1:
        raise GaitError(
            f"PYTHONOPTIMIZE, or -O: received {sys.flags.optimize}; allowed: 0 or 1, since Altair,"
            " which makes the report, reads docstrings"
        )
    here = Path.cwd()
    try:
        os.fsencode(here).decode("utf-8")
    except UnicodeDecodeError:
        raise GaitError(
            f"the name of the folder {here} is no UTF-8; allowed: one that is, since MLflow's store"
            " holds it"
        ) from None
    for name in _DEFAULT_S:
        seconds(name)
    folder(DATA_ROOT)
    if _IN_MEMORY.match(given(TRACKING_URI) or ""):
        raise GaitError(
            f"the environment variable {TRACKING_URI}: received a database in memory, which is gone"
            " when a command ends; allowed: a file, such as sqlite:////data/mlflow.db, or a server"
        )
    try:
        urllib.parse.urlsplit(given(TRACKING_URI) or "")
    except ValueError as error:
        # What it is may hold a password.
        raise GaitError(
            f"the environment variable {TRACKING_URI}: received what is no address ({error});"
            " allowed: such as http://HOST:5000"
        ) from None


def prepare_environment() -> None:
    """For what is started from here: this interpreter's folder comes first on PATH."""
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    os.environ |= {"PATH": os.pathsep.join(path), "DO_NOT_TRACK": "true"}
