"""Which commit this is: git of this very folder, and a sentence where git does not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.project import source as source_
from pipeline.project.source import Source, source
from tests.pipeline.project_copy import commit, run

TOLD = "git tells no commit of this folder ("


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text("profile: x\n")
    run(folder, "git", "init", "--quiet")
    commit(folder)
    monkeypatch.chdir(folder)
    source_._tell.cache_clear()
    return folder


def test_the_commit_is_this_folders_whatever_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "params.yaml").write_text(name)
        run(folder, "git", "init", "--quiet")
        commit(folder)
        heads.append(run(folder, "git", "rev-parse", "HEAD").strip())
    assert heads[0] != heads[1]
    monkeypatch.chdir(tmp_path / "one")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    found = source()
    assert (found.commit, found.clean) == (heads[0], True)


def test_a_new_file_is_a_change_whatever_git_is_set_to_show(repository: Path) -> None:
    run(repository, "git", "config", "status.showUntrackedFiles", "no")
    (repository / "gaitprop").mkdir()
    assert source().clean
    (repository / "gaitprop" / "new.py").touch()
    assert (source().clean, source().code_clean) == (False, False)


def test_another_owners_tree_is_said_once(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GAIT_COMMIT", raising=False)
    assert source().commit != "none"
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert source() == source() == Source("none", clean=False)
    said = capsys.readouterr().err
    assert said.count("\n") == said.count(TOLD) == 1
    assert (
        f"detected dubious ownership in repository at '{repository}'): runs will say none" in said
    )


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_a_git_that_is_missing_is_said(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    monkeypatch.setenv("GAIT_COMMIT", "abc1234")
    monkeypatch.setenv("PATH", path)
    assert source() == Source("abc1234", clean=False)
    said = capsys.readouterr().err
    assert f"{TOLD}No such file or directory: git): runs will say abc1234" in said


def test_a_folder_without_a_history_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAIT_COMMIT", raising=False)
    assert source() == Source("none", clean=False)
    assert capsys.readouterr().err == ""
