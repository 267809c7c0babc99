"""Stages compute with the kernels that portable numerics are of, whatever this processor has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.project_copy import gait, run

# Other kernels change few losses, and those in the last bit: what is looked at is the cause, too.
EVALUATE = """
from gaitprop import numerics
from pipeline.params import params_file
from pipeline.stages import evaluate
evaluate.run(params_file.load())
print(numerics.why_not_portable())
"""


@pytest.mark.long
def test_training_and_evaluation_have_the_bits_of_avx2(
    tmp_path: Path, new_project: Callable[..., Path]
) -> None:
    """By cross-entropy, whose exponentials differ from one set of PyTorch's kernels to another."""
    made = []
    for kernels in ("default", "avx2"):
        environment = {"ATEN_CPU_CAPABILITY": kernels}
        folder = new_project(tmp_path / kernels, 4)
        params = folder / "params.yaml"
        params.write_text(
            params.read_text()
            .replace("training:", "training:\n  loss: cross_entropy")
            .replace("rules: [bp, gait]", "rules: [bp]")
        )
        for name in ("reference", "bp"):
            gait(folder, "train", "digits", "square", name, **environment)
        model = folder / "models" / "digits" / "digits" / "square" / "reference"
        assert '"cross_entropy"' in (model / "config.json").read_text()
        network = (model / "network.safetensors").read_bytes()
        assert run(folder, sys.executable, "-c", EVALUATE, **environment).endswith("None\n")
        made.append((network, (folder / "results" / "digits" / "seeds.csv").read_text()))
    assert made[0] == made[1]
