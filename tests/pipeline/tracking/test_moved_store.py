"""A project that is moved or copied takes its artifacts with it, and leaves the other alone."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.tracking import moved_store
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.trained import runs


def parent(folder: Path, model: str) -> str:
    tags = {"gait.level": "model", "gait.model": model}
    found = (each for each in runs(folder) if tags.items() <= each.data.tags.items())
    return str(next(found).info.run_id)


def state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, new_project: Callable[..., Path], helper: Preloaded
) -> Path:
    # A space is %20 in the places that MLflow notes.
    folder = new_project(tmp_path_factory.mktemp("moved") / "the first")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("rules: [bp, gait]", "rules: [gait]"))
    helper.run(folder, "train", "digits", "square", "gait")
    return folder


def test_a_copy_writes_nothing_into_what_it_was_copied_from(
    trained: Path, tmp_path: Path, helper: Preloaded
) -> None:
    copy = tmp_path / "the copy"
    shutil.copytree(trained, copy)
    before = state(trained)
    said = helper.run(copy, "train", "digits", "square", "reference")
    assert f"{copy}/mlflow.db was made in {trained}: " in said
    assert state(trained) == before
    kept = copy / "mlartifacts" / parent(copy, "reference") / "artifacts" / "config.json"
    assert kept.is_file()
    # Once: what follows has nothing to mend.
    assert "was made in" not in helper.run(copy, "train", "digits", "square", "reference")
    with closing(sqlite3.connect(copy / "mlflow.db")) as store:
        for table, column in moved_store.COLUMNS:
            for (place,) in store.execute(f"SELECT {column} FROM {table}"):
                assert place is None or str(trained.name).replace(" ", "%20") not in place


def test_what_was_moved_is_reproduced_and_registered(
    trained: Path, tmp_path: Path, helper: Preloaded
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(trained, tmp_path / "origin")
    # As `origin` has it, which is gone afterwards.
    assert moved_store.follow(tmp_path / "origin" / "mlflow.db") is not None
    (tmp_path / "origin").rename(moved)
    said = helper.run(moved, "reproduce", parent(moved, "gait"), "--dry-run")
    assert "digits/square/gait: would be trained" in said
    assert f"was made in {tmp_path / 'origin'}: " in said
    helper.run(moved, "train", "digits", "square", "reference")
    helper.run(moved, "evaluate")
    helper.run(moved, "register", "gait")
    client = MlflowClient(f"sqlite:///{moved / 'mlflow.db'}")
    version = client.get_model_version_by_alias("digits-digits-square", "gait")
    place = client.get_model_version_download_uri(version.name, version.version)
    assert str(moved) in place
    assert not (tmp_path / "origin").exists()


@pytest.mark.parametrize("content", [b"", b"no database at all", None])
def test_what_is_no_store_is_mlflows_to_refuse(tmp_path: Path, content: bytes | None) -> None:
    database = tmp_path / "mlflow.db"
    if content is not None:
        database.write_bytes(content)
        assert moved_store.follow(database) is None
        return
    with closing(sqlite3.connect(database)) as other:
        other.executescript("CREATE TABLE t (x); BEGIN EXCLUSIVE;")
        assert moved_store.follow(database) is None


def test_a_place_that_was_chosen_stays(trained: Path, tmp_path: Path) -> None:
    """On a disk with more room, say, where no store ever was."""
    (tmp_path / "large").mkdir()
    place = (tmp_path / "large" / "mlruns" / "7").as_uri()
    shutil.copy(trained / "mlflow.db", tmp_path)
    moved_store.follow(tmp_path / "mlflow.db")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    chosen = client.create_experiment("of one's own", artifact_location=place)
    assert moved_store.follow(tmp_path / "mlflow.db") is None
    assert client.get_experiment(chosen).artifact_location == place


def test_artifacts_that_stayed_elsewhere_are_still_found_there(
    trained: Path, tmp_path: Path
) -> None:
    """Of a database alone that was copied: what is new goes here."""
    shutil.copy(trained / "mlflow.db", tmp_path)
    assert moved_store.follow(tmp_path / "mlflow.db") is not None
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()
    assert client.list_artifacts(parent(tmp_path, "gait"))
