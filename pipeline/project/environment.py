"""What is started from here finds this interpreter's programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn


def become(command: list[str]) -> NoReturn:
    """Goes on as another program: signals and the exit code are its own."""
    prepare_environment()
    sys.stdout.flush()
    os.execve(command[0], command, dict(os.environ))


def prepare_environment() -> None:
    """For what is started from here: this interpreter's folder comes first on PATH."""
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    os.environ |= {"PATH": os.pathsep.join(path), "DO_NOT_TRACK": "true"}
