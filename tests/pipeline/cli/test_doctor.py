"""`gait doctor` finds what is wrong, and says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.cli import doctor

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    shutil.copy(REPOSITORY / "profiles" / "digits.yaml", tmp_path / "params.yaml")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("GAIT_DATA_ROOT", raising=False)
    return tmp_path


def advice() -> dict[str, str]:
    return {each.name: each.advice for each in doctor.examine() if each.advice is not None}


def test_a_healthy_project_needs_nothing_and_is_left_as_it_was(project: Path) -> None:
    before = sorted(project.rglob("*"))
    findings = doctor.examine()
    assert [each for each in findings if not each.well and each.name != "disk"] == []
    assert [each.name for each in findings] == [
        *(
            "Python",
            "torch",
            "numerics",
            "DVC",
            "params.yaml",
            "data",
            "variables",
            "packages",
            "MLflow store",
            "Ray",
            "disk",
        )
    ]
    assert sorted(project.rglob("*")) == before


def test_every_problem_of_the_parameters_is_told(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("gamma: 0.001", "gamma: -1"))
    found = next(each for each in doctor.examine() if each.name == "params.yaml")
    assert not found.well
    assert "gamma" in found.found


def test_each_trouble_has_its_advice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".dvc" / "config.local").unlink()
    shutil.copy(REPOSITORY / "profiles" / "mnist.yaml", project / "params.yaml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(doctor, "ROOM_BYTES", 10**18)
    found = advice()
    assert "no_scm" in found["DVC"]
    assert "gait download" in found["data"]
    assert "MLflow store" in found
    assert "make room" in found["disk"]


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


def test_the_command_tells_scripts(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").write_text("profile: [")
    monkeypatch.setattr("sys.argv", ["gait", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["Python"]["advice"] is None
    assert found["params.yaml"]["advice"]
