"""Stages compute with the kernels that portable numerics are of, whatever this processor has.

By cross-entropy, whose exponentials differ in the last bit from one set of kernels to another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.pipeline.project_copy import gait, run

LOSS = "from pipeline.params import params_file\n"
LOSS += "from pipeline.project.paths import ModelKey\n"
LOSS += "from pipeline.results.evaluation import evaluate_model\n"
LOSS += "key = ModelKey('digits', 'digits', 'square', 'bp')\n"
LOSS += "losses = evaluate_model(params_file.load(), key).test_loss\n"
LOSS += "print([loss.hex() for loss in losses])"


def test_training_and_evaluation_have_the_bits_of_avx2(
    tmp_path: Path, new_project: Callable[..., Path]
) -> None:
    made = []
    for number, environment in enumerate(({}, {"ATEN_CPU_CAPABILITY": "avx2"})):
        folder = new_project(tmp_path / str(number), 4)
        params = folder / "params.yaml"
        params.write_text(
            params.read_text().replace("training:", "training:\n  loss: cross_entropy")
        )
        gait(folder, "train", "digits", "square", "bp", **environment)
        model = folder / "models" / "digits" / "digits" / "square" / "bp"
        assert '"cross_entropy"' in (model / "config.json").read_text()
        network = (model / "network.safetensors").read_bytes()
        made.append((network, run(folder, sys.executable, "-c", LOSS, **environment)))
    assert made[0] == made[1]
