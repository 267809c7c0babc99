"""`gait doctor` finds what is wrong, and says what to do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pipeline.cli import doctor
from pipeline.tracking import store
from tests.pipeline.project_copy import commit, gait_here, run

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    shutil.copy(REPOSITORY / "profiles" / "digits.yaml", tmp_path / "params.yaml")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAIT_DATA_ROOT", raising=False)
    return tmp_path


def advice() -> dict[str, str]:
    return {each.name: each.advice for each in doctor.examine() if each.advice is not None}


def test_a_healthy_project_needs_nothing_and_is_left_as_it_was(project: Path) -> None:
    before = sorted(project.rglob("*"))
    findings = doctor.examine()
    assert [each for each in findings if each.advice and each.name != "disk"] == []
    assert [each.name for each in findings] == [
        *(
            "Python",
            "torch",
            "numerics",
            "DVC",
            "git",
            "params.yaml",
            "data",
            "variables",
            "packages",
            "MLflow store",
            "figures",
            "Ray",
            "disk",
        )
    ]
    assert sorted(project.rglob("*")) == before


def test_every_problem_of_the_parameters_is_told(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("gamma: 0.001", "gamma: -1"))
    found = next(each for each in doctor.examine() if each.name == "params.yaml")
    assert found.advice
    assert "gamma" in found.found


def test_each_trouble_has_its_advice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".dvc" / "config.local").unlink()
    shutil.copy(REPOSITORY / "profiles" / "mnist_256.yaml", project / "params.yaml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(doctor, "ROOM_BYTES", 10**18)
    found = advice()
    assert "no_scm" in found["DVC"]
    assert "gait download" in found["data"]
    assert "MLflow store" in found
    assert "make room" in found["disk"]


def test_what_others_keep_in_the_environment_is_not_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAIT_API_TOKEN", "hunter2")
    found = doctor._variables()
    assert "GAIT_API_TOKEN (which no command reads)" in found and "hunter2" not in found


def test_an_artifact_is_written_and_deleted(project: Path) -> None:
    store.open_experiment("digits")
    before = sorted(project.rglob("*"))
    (found,) = (each for each in doctor.examine() if each.name == "MLflow store")
    assert "a tag and an artifact were written and deleted" in found.found
    assert sorted(project.rglob("*")) == before
    (project / "mlartifacts").write_text("no folder")
    assert "mend" in advice()["MLflow store"]


def test_a_deleted_experiment_is_told(project: Path) -> None:
    client, number = store.open_experiment("digits")
    client.delete_experiment(number)
    (found,) = (each for each in doctor.examine() if each.name == "MLflow store")
    assert "restore" in found.found and found.advice


def test_git_is_asked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(project, "git", "init", "--quiet")
    commit(project)
    assert "git" not in advice()
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    run(project, "git", "config", "user.useConfigOnly", "true")
    (found,) = (each for each in doctor.examine() if each.name == "git")
    assert (
        found.advice is None and "; no user.name and user.email, which `git commit`" in found.found
    )
    run(project, "git", "config", "user.name", "N")
    run(project, "git", "config", "user.email", "n@example.org")
    (found,) = (each for each in doctor.examine() if each.name == "git")
    assert "user.name" not in found.found
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert f"safe.directory {project}`" in advice()["git"]
    monkeypatch.setenv("PATH", "")
    assert "git" in advice()


def test_a_picture_is_drawn(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "figures" not in advice()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no fonts here\nat all")

    monkeypatch.setattr(Figure, "savefig", broken)
    (found,) = (each for each in doctor.examine() if each.name == "figures")
    assert found.found == "RuntimeError: no fonts here"


def test_deep_starts_ray_and_leaves_nothing_of_it(project: Path) -> None:
    (found,) = (each for each in doctor.examine(deep=True) if each.name == "Ray")
    assert "a task done, stopped" in found.found
    # Its token, which a cluster that is looked at next would refuse.
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & os.environ.keys()


def test_a_folder_that_is_none_of_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = advice()
    assert "project's folder" in found["DVC"]
    assert {"params.yaml", "data"} <= set(found)
    said = [each.found for each in doctor.examine() if "cannot be read" in each.found]
    assert len(said) == 1
    assert found["data"] == "mend params.yaml first"


def test_the_command_tells_scripts(project: Path) -> None:
    (project / "params.yaml").write_text("profile: [")
    code, said, _ = gait_here("doctor", "--json")
    assert code == 1
    found = {each["name"]: each for each in json.loads(said)}
    assert found["Python"]["advice"] is None
    assert found["params.yaml"]["advice"]


def test_brackets_of_what_is_found_are_shown(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("profile: digits", "profile: '[/x]'"))
    code, said, _ = gait_here("doctor")
    assert code == 1
    assert "[/x]" in said
