"""A clone with another clone's environment runs nothing, since its runs would name its own code."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.own_packages import packages
from tests.pipeline.project_copy import REPOSITORY, copy_project, gait, run

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


# Trains as `gait train` does, and changes a file before that has ended.
MEANWHILE = """
import sys
from pathlib import Path
from pipeline import cli
from pipeline.stages import {stage}
run, path, old, new = {stage}.run, Path(sys.argv.pop()), *sys.argv[-2:]
del sys.argv[-2:]
def and_change(*arguments, **options):
    result = run(*arguments, **options)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return result
{stage}.run = and_change
cli.main()
"""
RULE = "gaitprop/rules/gait.py"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("meanwhile") / "project", git=False)
    gait(folder, "download")
    return folder


@pytest.mark.parametrize(
    ("path", "old", "new", "dvc_stage", "code"),
    [
        (RULE, '"""', '"""So: ', {"DVC_STAGE": "train@"}, 2),
        ("params.yaml", "epochs: 2", "epochs: 3", {"DVC_STAGE": "train@"}, 2),
        ("params.yaml", "epochs: 2", "epochs: none", {"DVC_STAGE": "train@"}, 2),
        # Nothing of this is recorded with the model.
        ("params.yaml", "  search: grid", "  search: random", {"DVC_STAGE": "train@"}, 0),
        (RULE, '"""', '"""So: ', {}, 0),
    ],
)
@pytest.mark.long
def test_code_or_params_that_change_while_a_model_is_trained(
    project: Path, path: str, old: str, new: str, dvc_stage: dict[str, str], code: int
) -> None:
    before = (project / path).read_bytes()
    script = MEANWHILE.format(stage="train")
    arguments = ("train", "digits", "square", "gait", old, new, path)
    try:
        said = run(project, sys.executable, "-c", script, *arguments, code=code, **dvc_stage)
    finally:
        (project / path).write_bytes(before)
    assert "Traceback" not in said
    assert (project / "models/digits/digits/square/gait/network.safetensors").is_file()
    assert ("changed while it was made" in said) == bool(code)
    assert ("`dvc commit`" in said) == bool(code)


def test_a_profile_that_is_changed_meanwhile(project: Path) -> None:
    """The model is none of the new one's."""
    place = project / "params.yaml"
    before = place.read_text()
    script = MEANWHILE.format(stage="train")
    renamed = ("\n  gait:\n", "\n  gait_x:\n    rule: gait\n", "params.yaml")
    place.write_text(before.replace("rules: [bp, gait]  # keys", "rules: [gait]  # keys"))
    meanwhile = script.replace(
        "text.replace(old, new)", "text.replace('[gait]', '[bp]').replace(old, new)"
    )
    try:
        arguments = ("train", "digits", "square", "gait", *renamed)
        said = run(project, sys.executable, "-c", meanwhile, *arguments, code=2, DVC_STAGE="train@")
    finally:
        place.write_text(before)
    assert "Traceback" not in said
    assert "changed while it was made" in said


def test_a_packages_rule_that_changes_while_its_model_is_trained(
    project: Path, tmp_path: Path
) -> None:
    place = project / "params.yaml"
    before = place.read_text()
    source = tmp_path / "own_pack.py"
    text = before.replace("rules: [bp, gait]  # keys", "rules: [mine, gait]  # keys")
    place.write_text(
        text.replace("\n  bp:\n", "\n  mine: {learning_rate: 0.01, orthogonality: 0.0}\n  bp:\n")
    )
    arguments = ("train", "digits", "square", "mine", "error\n", "2 * error\n", str(source))
    try:
        with packages(tmp_path, "gaitprop.rules") as install:
            install("pack", "def mine(layer, error, scale): return error\n", mine="mine")
            own = {"DVC_STAGE": "train@", "PYTHONPATH": str(tmp_path)}
            script = MEANWHILE.format(stage="train")
            said = run(project, sys.executable, "-c", script, *arguments, code=2, **own)
    finally:
        place.write_text(before)
    assert "changed while it was made" in said


@pytest.mark.parametrize(
    ("path", "dvc_stage", "code"),
    [
        ("pipeline/data/archives.py", {"DVC_STAGE": "download@"}, 2),
        ("own_set/read.py", {"DVC_STAGE": "download@"}, 2),
        (RULE, {"DVC_STAGE": "download@"}, 0),
        ("pipeline/data/archives.py", {}, 0),
    ],
)
def test_code_that_changes_while_images_are_read(
    project: Path, path: str, dvc_stage: dict[str, str], code: int
) -> None:
    (project / "own_set").mkdir(exist_ok=True)
    (project / "own_set/read.py").write_text('"""Reads."""\n')
    (link := project / "watched/datasets/digits").unlink()
    link.symlink_to(project / "own_set")
    before = (project / path).read_bytes()
    script = MEANWHILE.format(stage="download")
    arguments = ("download", "digits", '"""', '"""So: ', path)
    try:
        said = run(project, sys.executable, "-c", script, *arguments, code=code, **dvc_stage)
    finally:
        (project / path).write_bytes(before)
    assert ("changed while it was made" in said) == bool(code)
    assert (project / "data/digits/digits.safetensors").is_file()
