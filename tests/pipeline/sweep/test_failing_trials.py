"""A trial that can never succeed has failed, with its reason; it is not tried for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.params.search_space import Configuration
from pipeline.project.errors import GaitError
from pipeline.sweep import trial
from pipeline.sweep.trial import Task, attempt
from pipeline.training.identity import training_code_checksum
from tests.pipeline.project_copy import small_params

SECTION = """
sweep:
  rules: [gait]
  space: {training.batch_size: [30, 5000]}
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("task")
    text = small_params()
    (folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + SECTION)
    image_tensors.prepare("digits", folder / "digits.safetensors", root=folder)
    images = image_tensors.load(folder / "digits.safetensors")
    return Task(params_file.load(folder / "params.yaml"), images)


def outcome(task: Task, batch_size: int) -> tuple[str, str]:
    said: list[dict[str, Any]] = []
    configuration = Configuration("gait", {"training.batch_size": batch_size})
    attempt(configuration, task, {"node": "here"}, said.append)
    return said[-1]["outcome"], said[-1]["failure"]


def test_settings_that_the_data_does_not_allow(task: Task) -> None:
    status, failure = outcome(task, 5000)
    assert status == "FAILED"
    assert "training.batch_size: received 5000; allowed: at most" in failure


@pytest.mark.parametrize("error", [MemoryError("no room for a tensor"), SystemExit("no licence")])
def test_whatever_else_is_raised(
    task: Task, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(trial, "trained", fails)
    assert outcome(task, 30) == ("FAILED", f"{type(error).__name__}: {error}")


def test_a_gpu_that_does_not_work_makes_no_trial_fail(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would count as the trial's result; and its process is of no use to the next one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    training = task.params.training.model_copy(update={"device": "cuda"})
    wanting = replace(task, params=task.params.model_copy(update={"training": training}))
    with pytest.raises(GaitError, match="PyTorch sees no GPU here"):
        outcome(wanting, 30)

    def fails(*_: Any) -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr(trial, "trained", fails)
    with pytest.raises(torch.AcceleratorError):
        outcome(task, 30)


def test_code_that_is_another_than_the_sweeps_trains_nothing(task: Task) -> None:
    own = training_code_checksum("gait")
    assert outcome(replace(task, code={"gait": own}), 30) == ("FINISHED", None)
    with pytest.raises(GaitError, match="the sweep's code was changed while it ran"):
        outcome(replace(task, code={"gait": "0" * 64}), 30)
