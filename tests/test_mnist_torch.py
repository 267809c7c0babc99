"""examples/mnist_torch.py, on a small archive of MNIST's kind; and the script it says it was."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SCRIPT = (Path(__file__).parents[1] / "examples" / "mnist_torch.py").read_text()
CHANGED = re.compile(r"^( *)(\S.*?)  # instead of: (.*)\n", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits, enlarged to 28 x 28."""
    folder = tmp_path_factory.mktemp("data")
    images, labels = load_digits(return_X_y=True)
    enlarged = np.kron(images.reshape(-1, 8, 8), np.ones((3, 3))) * 255 / 16
    enlarged = np.pad(enlarged, ((0, 0), (2, 2), (2, 2)))
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, part in (("train", slice(200, 800)), ("t10k", slice(200))):
        write(raw / f"{name}-images-idx3-ubyte", enlarged[part])
        write(raw / f"{name}-labels-idx1-ubyte", labels[part])
    return folder


def write(path: Path, values: NDArray[np.float64]) -> None:
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def test_five_lines_differ() -> None:
    assert len(CHANGED.findall(SCRIPT)) == 5
    assert "gaitprop" not in re.sub(r'^""".*?"""', "", CHANGED.sub("", SCRIPT), flags=re.DOTALL)


@pytest.mark.parametrize("plain", [False, True])
def test_it_trains(plain: bool, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def before(found: re.Match[str]) -> str:
        return "" if found[3] == "(nothing)" else f"{found[1]}{found[3]}\n"

    script = CHANGED.sub(before, SCRIPT) if plain else SCRIPT
    space = {"__name__": "example"}
    exec(compile(script, "mnist_torch.py", "exec"), space)
    space["main"](["--data", str(folder), "--epochs", "3", "--learning-rate", "1e-3"])
    said = capsys.readouterr().out
    assert said.count("of the test set") == 3
    assert float(re.findall(r": (\S+)%", said)[-1]) > 60
