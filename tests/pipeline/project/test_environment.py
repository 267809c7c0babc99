"""Environment variables are settings: read in one place, checked before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.project import environment
from pipeline.project.errors import GaitError
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import REPOSITORY, gait

TIMES = (environment.STATE_INTERVAL_S, environment.PATIENCE_S)


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("text", ["1m", "-1", "nan", "inf", " ", "1.1e9", "99999999999"])
def test_what_is_no_length_of_time(
    new_project: Callable[..., Path], tmp_path: Path, helper: Preloaded, name: str, text: str
) -> None:
    project = new_project(tmp_path / "project")
    said = helper.run(project, "train", "digits", "square", "gait", code=2, **{name: text})
    assert said == (
        f"gait: the environment variable {name}: received {text!r}; allowed: a number of seconds,"
        " 0 to 1e9, such as 30 or 0.5\n"
    )
    assert not (project / "states").exists()


@pytest.mark.parametrize("name", TIMES)
def test_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    assert environment.seconds(name) == 30
    monkeypatch.setenv(name, "0.5")
    assert environment.seconds(name) == 0.5


def test_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(environment.DATA_ROOT, "~/archives")
    assert environment.folder(environment.DATA_ROOT) == tmp_path / "archives"
    monkeypatch.setenv(environment.DATA_ROOT, "~nobody-of-that-name/archives")
    with pytest.raises(GaitError, match=re.escape("'~nobody-of-that-name/archives'; allowed")):
        environment.check()


def test_docstrings_are_needed(tmp_path: Path) -> None:
    """What makes the report reads them, and would fail after all trainings."""
    said = gait(tmp_path, "profile", code=2, PYTHONOPTIMIZE="2", PYTHONPATH=str(REPOSITORY))
    assert said.startswith("gait: PYTHONOPTIMIZE, or -O: received 2; allowed: 0 or 1")


def test_no_other_place_reads_them() -> None:
    # Parts of MLflow read the store's address there, so that it is put there, too.
    reading = re.compile(r"environ\b.*(GAIT_|environment\.(?!TRACKING_URI)[A-Z])|getenv")
    for path in (REPOSITORY / "pipeline").rglob("*.py"):
        found = [line for line in path.read_text().splitlines() if reading.search(line)]
        assert path.name == "environment.py" or not found, (path, found)


def test_the_doctor_lists_them(tmp_path: Path, helper: Preloaded) -> None:
    process = helper.start(tmp_path, "doctor", "--json", GAIT_MLFLOW_PATIENCE_S="77")
    process.wait()
    assert "GAIT_MLFLOW_PATIENCE_S=77" in process.output


def test_a_store_that_is_no_address(tmp_path: Path, helper: Preloaded) -> None:
    uri = "http://me:secret@[::1"  # pragma: allowlist secret
    said = helper.run(tmp_path, "profile", code=2, MLFLOW_TRACKING_URI=uri)
    assert said == (
        "gait: the environment variable MLFLOW_TRACKING_URI: received what is no address (Invalid"
        " IPv6 URL); allowed: such as http://HOST:5000\n"
    )


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_store_that_keeps_nothing(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv(environment.TRACKING_URI, uri)
    with pytest.raises(GaitError, match="received a database in memory"):
        environment.check()
    for file in (
        "sqlite:////x/mlflow.db",
        "sqlite:///memory.db",
        "sqlite:///file:mode=memory.db?uri=true",
    ):
        monkeypatch.setenv(environment.TRACKING_URI, file)
        environment.check()


def test_an_archive_root_in_nobodys_home(
    new_project: Callable[..., Path], tmp_path: Path, helper: Preloaded
) -> None:
    project = new_project(tmp_path / "project")
    params = project / "params.yaml"
    params.write_text(re.sub("root: .*", "root: ~nobody_of_this_name/x", params.read_text()))
    said = helper.run(project, "download", code=2)
    assert said.startswith("gait: params.yaml, archives.root: received '~nobody_of_this_name/x'")


def test_a_folder_of_a_name_that_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"r\xe9sultats")
    folder.mkdir()
    said = gait(folder, "profile", code=2, PYTHONPATH=str(REPOSITORY))
    assert said.startswith("gait: the name of the folder ")
    assert said.endswith("is no UTF-8; allowed: one that is, since MLflow's store holds it\n")
    assert not list(folder.iterdir())
