"""A folder is replaced as a whole, or is what it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.project.files import whole_folder


def put(folder: Path, text: str) -> None:
    with whole_folder(folder) as temporary:
        (temporary / "file").write_text(text)


def test_what_was_there_is_kept_where_no_rename_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    put(folder, "old")
    rename = Path.replace

    def refused(self: Path, target: Path) -> Path:
        if target == folder:
            raise OSError("no room")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refused)
        with pytest.raises(OSError, match="no room"):
            put(folder, "new")
    assert not folder.exists()
    with pytest.raises(ZeroDivisionError), whole_folder(folder):
        raise ZeroDivisionError
    assert (folder / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_kill_between_the_two_renames(tmp_path: Path) -> None:
    folder = tmp_path / "model.v1"
    put(folder, "old")
    kill = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pipeline.project.files import whole_folder\n"
        "folder, rename = Path(sys.argv[1]), Path.replace\n"
        "def killed(self, target):\n"
        "    os.kill(os.getpid(), 9) if target == folder else rename(self, target)\n"
        "Path.replace = killed\n"
        "with whole_folder(folder) as temporary:\n"
        "    (temporary / 'file').write_text('new')\n"
    )
    done = subprocess.run([sys.executable, "-c", kill, folder], check=False)
    assert done.returncode == -9
    assert not folder.exists() and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ZeroDivisionError), whole_folder(folder):
        raise ZeroDivisionError
    assert (folder / "file").read_text() == "old"
    put(folder, "newer")
    assert (folder / "file").read_text() == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["model.v1"]


@pytest.mark.parametrize("error", [OSError("no room"), KeyboardInterrupt()])
def test_what_comes_between_the_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = tmp_path / "model"
    with whole_folder(folder) as temporary:
        (temporary / "file").write_text("old")
    rename = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target == folder and not self.name.endswith(".old"):
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(type(error)), whole_folder(folder) as temporary:
        (temporary / "file").write_text("new")
    assert (folder / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
