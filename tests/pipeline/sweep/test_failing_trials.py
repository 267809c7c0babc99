"""A trial that can never succeed has failed, with its reason; it is not tried for ever."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.params.search_space import Configuration
from pipeline.sweep import trial
from pipeline.sweep.trial import Task, attempt
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


def test_whatever_else_is_raised(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError("no room for a tensor")

    monkeypatch.setattr(trial, "trained", full)
    assert outcome(task, 30) == ("FAILED", "MemoryError: no room for a tensor")
