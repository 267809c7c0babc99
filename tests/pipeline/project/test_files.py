"""A folder is replaced as a whole, or is what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.project.files import whole_folder


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
