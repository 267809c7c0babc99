"""docs/torch.md and torch_models.md: what they install and run, and what they say of results."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gaitprop.regularizer import orthogonality_defect
from tests.documents import blocks

REPOSITORY = Path(__file__).parents[1]
PAGES = ("torch.md", "torch_models.md")
DOCUMENT = "\n".join((REPOSITORY / "docs" / page).read_text() for page in PAGES)
PROGRAMS = [text for name, language, text in blocks(DOCUMENT) if language == "python" and not name]


def run(folder: Path, *command: str, **environment: str) -> str:
    said = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def numbers(text: str) -> list[float]:
    return [float(each) for each in re.findall(r"\d[\d.]*(?:e[-+]\d+)?", text)]


def test_from_the_installation_to_a_trained_network(tmp_path: Path) -> None:
    """With what is installed already, and a quarter of the epochs."""
    commands = [text for _, language, text in blocks(DOCUMENT) if language == "sh"]
    assert commands == ["pip install .\n", "python digits.py\n"]
    packages = tmp_path / "packages"
    install = "uv pip install --quiet --no-deps --no-build-isolation --offline --target"
    run(REPOSITORY, *install.split(), str(packages), ".")
    (program,) = (text for name, _, text in blocks(DOCUMENT) if name == "digits.py")
    shorter = program.replace("range(1, 21)", "range(1, 6)")
    assert shorter != program
    (tmp_path / "digits.py").write_text(shorter)
    where = "import gaitprop; print(gaitprop.__file__)"
    assert run(tmp_path, sys.executable, "-c", where, PYTHONPATH=str(packages)).startswith(
        str(packages)
    )
    said = run(tmp_path, sys.executable, "digits.py", PYTHONPATH=str(packages))
    assert re.fullmatch(r"epoch 5: \d\d\.\d% of the test set\n", said)
    # Rounding, and so some images, are the machine's; the page has those of one.
    (stated,) = re.findall(r"^epoch 5: .*\n", DOCUMENT, flags=re.MULTILINE)
    assert abs(numbers(said)[1] - numbers(stated)[1]) < 3


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run(program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(program, "docs/torch.md", "exec"), names)
    said = capsys.readouterr().out
    if '"itp"' in program:
        of_bp, of_gait, of_itp = numbers(said)
        assert of_bp == 0.0
        assert of_gait < 1e-13
        assert of_itp > 0.5
    if "orthogonal_(model)" in program:
        assert numbers(said)[0] < 1e-5
    for seed, objective in enumerate(names.get("objectives", [])):
        objective(names["images"], names["labels"]).backward()
        for name, parameter in objective.named_parameters():
            torch.testing.assert_close(names["gradients"][name][seed], parameter.grad)
        weights = [names["parameters"][f"model.{layer}.weight"][seed] for layer in (0, 1)]
        assert all(orthogonality_defect(weight) < 1e-5 for weight in weights)


def test_there_are_programs() -> None:
    assert len(PROGRAMS) == 6
