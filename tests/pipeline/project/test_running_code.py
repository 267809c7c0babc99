"""A clone with another clone's environment runs nothing, since its runs would name its own code."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.pipeline.project_copy import REPOSITORY, run

# As the installed command does it: the folder is not on Python's path.
INSTALLED = ("-P", "-c", "from pipeline.cli import main; main()", "profile")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for part in ("gaitprop", "pipeline", "profiles"):
        shutil.copytree(REPOSITORY / part, tmp_path / part)
    return tmp_path


def test_another_clones_code_is_refused(clone: Path) -> None:
    elsewhere = {"PYTHONPATH": str(REPOSITORY)}
    said = run(clone, sys.executable, *INSTALLED, code=2, **elsewhere)
    assert f"the code that would run is {REPOSITORY / 'gaitprop'}" in said
    assert f"this folder has its own, {clone / 'gaitprop'}" in said
    assert "Traceback" not in said


def test_the_folders_own_code_runs_also_by_a_link(clone: Path, tmp_path: Path) -> None:
    run(clone, sys.executable, *INSTALLED, PYTHONPATH=str(clone))
    linked = tmp_path.with_name("linked")
    linked.symlink_to(clone)
    run(linked, sys.executable, *INSTALLED, PYTHONPATH=str(clone))


def test_a_folder_without_code_takes_what_is_installed(clone: Path) -> None:
    shutil.rmtree(clone / "pipeline")
    run(clone, sys.executable, *INSTALLED, PYTHONPATH=str(REPOSITORY))
