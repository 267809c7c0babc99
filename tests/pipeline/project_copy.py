"""Copies of the project with a small experiment, to run the real commands in."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from pipeline import cli

REPOSITORY = Path(__file__).parents[2]
PARTS = (
    ".dvc/.gitignore",
    ".dvc/config",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
    "Makefile",
    "dvc.yaml",
    "gaitprop",
    "params.yaml",
    "pipeline",
    "profiles",
    "pyproject.toml",
    "requirements.lock",
    "watched",
)
SMALL = {
    "rules: [bp, gait, itp, tp]  # keys": "rules: [bp, gait]  # keys",
    "hidden_layers: 4": "hidden_layers: 1",
    "epochs: 60": "epochs: 2",
    "seeds: [0, 1, 2, 3, 4]": "seeds: [0, 1]",
}


def small_params() -> str:
    """The digits profile, cut down to seconds."""
    text = (REPOSITORY / "profiles" / "digits.yaml").read_text()
    for old, new in SMALL.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def copy_project(folder: Path, git: bool = True) -> Path:
    """The project's files as they stand, with small params, committed if ``git``."""
    for part in PARTS:
        source, target = REPOSITORY / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, symlinks=True, ignore=unwanted)
        else:
            shutil.copy2(source, target)
    (folder / "params.yaml").write_text(small_params())
    if git:
        run(folder, "git", "init", "--quiet")
        commit(folder)
    else:
        run(folder, sys.executable, "-m", "dvc", "config", "--local", "core.no_scm", "true")
    return folder


def commit(folder: Path) -> None:
    """Commits everything that git does not ignore."""
    who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    run(folder, "git", "add", "--all")
    run(folder, "git", *who, "commit", "--quiet", "--message", "state")


def run(folder: Path, *command: str, code: int = 0, **environment: str) -> str:
    """Runs a program in the folder with this interpreter first on PATH; returns all its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAIT_"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**inherited, "PATH": path, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def dvc(folder: Path, *arguments: str, code: int = 0) -> str:
    """Runs DVC in the folder."""
    return run(folder, sys.executable, "-m", "dvc", *arguments, code=code)


def gait(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """Runs the folder's own code as ``gait``."""
    return run(folder, sys.executable, "-m", "pipeline", *arguments, code=code, **environment)


def gait_here(*arguments: str) -> tuple[int, str, str]:
    """Runs ``gait`` in this process and folder; its exit code, standard output and error."""
    output, error = io.StringIO(), io.StringIO()
    code = 0
    with (
        patch("sys.argv", ["gait", *arguments]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(error),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return code, output.getvalue(), error.getvalue()
