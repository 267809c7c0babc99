"""The params that a recorded model is trained again by: they describe the very same model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.audit import reproduce, reproduce_training
from pipeline.audit.reproduce_training import params_of
from pipeline.params import params_file
from pipeline.params.schema import REFERENCE, Params
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey
from pipeline.training.experiment import described
from tests.pipeline.project_copy import small_params

SEEDS = """\
dataset,architecture,model,seed,test_accuracy,test_loss,train_accuracy_final,train_accuracy_peak,\
validation_accuracy_final,result
digits,square,gait,0,0.9,0.1,0.9,0.9,0.9,00
"""
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


@pytest.mark.parametrize("name", ["../../elsewhere", "--help", "a/b", "", 5])
def test_what_is_no_name_is_refused_before_it_is_a_path(name: object) -> None:
    """A run of a shared server may have been made by anybody."""
    names = ("profile", "dataset", "architecture_name", "model")
    good = dict.fromkeys(names, "digits")
    assert reproduce_training.key_of(good) == ModelKey(*["digits"] * 4)
    for each in names:
        with pytest.raises(GaitError, match="none of a model: received"):
            reproduce_training.key_of({**good, each: name})


def test_a_published_model_is_trained_on_as_many_threads_as_params_say(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They decide no bit, so that no record has them; more than its own slow a small network."""
    folder = shutil.copytree(ready, tmp_path / "project")
    monkeypatch.chdir(folder)
    (results := folder / "results" / "digits").mkdir(parents=True)
    (results / "seeds.csv").write_text(SEEDS)
    asked: list[str | None] = []

    @contextmanager
    def noted(config: Any, commit: str | None, threads: str | None) -> Iterator[Path]:
        asked.append(threads)
        raise GaitError("not trained")
        yield

    monkeypatch.setattr(reproduce, "remade", noted)
    with pytest.raises(GaitError, match="not trained"):
        list(reproduce.of_table(results, None))
    assert asked == ["1"]


def test_a_training_that_fails_says_why_itself(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(ready, tmp_path / "project")
    monkeypatch.chdir(folder)
    with pytest.raises(GaitError, match=r"^`gait train digits square gone` failed .* above$"):
        reproduce_training._gait(folder, "train", "digits", "square", "gone")
    assert "unknown model 'gone'" in capfd.readouterr().err
