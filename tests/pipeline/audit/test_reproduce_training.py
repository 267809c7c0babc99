"""The params that a recorded model is trained again by: they describe the very same model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.audit.reproduce_training import params_of
from pipeline.params import params_file
from pipeline.params.schema import REFERENCE, Params
from pipeline.project.paths import ModelKey
from pipeline.training.experiment import described
from tests.pipeline.project_copy import small_params

RULES = """\
  damped: {learning_rate: 0.001, orthogonality: 0.1, damping: 0.3}
  gait_more: {rule: gait, learning_rate: 0.002, orthogonality: 0.5, penalty: full}
  kolen_pollack: {learning_rate: 0.001, orthogonality: 0.0, feedback_learning_rate: 0.002}
  bp:
"""


@pytest.mark.parametrize("model", [REFERENCE, "gait", "damped", "gait_more", "kolen_pollack"])
def test_they_describe_the_recorded_model(tmp_path: Path, model: str) -> None:
    text = small_params().replace("[bp, gait]", "[gait, damped, gait_more, kolen_pollack]")
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("  bp:\n", RULES, 1))
    key, images = ModelKey("digits", "digits", "square", model), SimpleNamespace(checksum="0")
    recorded = described(params_file.load(path), key, images)
    assert described(Params.model_validate(params_of(recorded)), key, images) == recorded
