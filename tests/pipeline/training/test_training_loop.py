"""The loop of a training hears a signal at its next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.project.interruption import Interrupted, interruptible
from pipeline.project.paths import ModelKey
from pipeline.training.experiment import prepare
from pipeline.training.training_loop import epochs
from pipeline.training.training_record import Training
from tests.pipeline.project.test_interruption import drop_a_signal


def test_a_signal_that_python_dropped(ready: Path) -> None:
    params = params_file.load(ready / "params.yaml")
    images = image_tensors.load(ready / "data" / "digits" / "digits.safetensors")
    experiment = prepare(params, ModelKey("digits", "digits", "square", "gait"), images)
    training = Training("id", "digits", "name", "nowhere", experiment.network.seeds, {}, {}, 0)
    with interruptible():
        points = epochs(experiment, training, None)
        assert next(points).state["epoch"] == 0
        drop_a_signal()
        with pytest.raises(Interrupted, match="SIGTERM"):
            next(points)
