"""Files that come from elsewhere run no code and write nowhere else."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch

from pipeline.training import state_file
from tests.pipeline.project_copy import gait_here, small_params


class Malicious:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_state_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"epoch": 1, "notes": Malicious(tmp_path / "made")}, buffer)
    content = buffer.getvalue()
    path = tmp_path / "state.pt"
    # The checksum is right: it is against damage, not against those who can write the file.
    path.write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(state_file.DamagedStateError, match="holds what no state holds"):
        state_file.read(path, torch.device("cpu"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "text",
    [
        "profile: !!python/object/apply:os.system ['touch made']\n",
        "!!python/object/apply:os.system ['touch made']\n",
        "profile: !!python/object/new:os.system ['touch made']\n",
    ],
)
def test_params_with_code_are_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rest = small_params().split("\n", maxsplit=2)[2].replace("profile: digits\n", "")
    Path("params.yaml").write_text(text + rest if text.startswith("profile") else text)
    code, _, said = gait_here("train", "digits", "square", "gait")
    assert code == 2
    assert "params.yaml" in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
