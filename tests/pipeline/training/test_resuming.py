"""What lies in a model's folder of states: gone on with, or not, but never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gaitprop import InvertibleNetwork
from pipeline.project.paths import ModelKey
from pipeline.training import resuming, state_file
from pipeline.training.training_record import Training, as_plain

KEY = ModelKey("digits", "digits", "square", "gait")
IDENTITY = {"params": "p", "code": "c"}
NEW = Training("new", "digits", str(KEY), str(KEY.folder), [0], {}, {}, started_ms=2)


def kept(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A state of three epochs, whose notes are changed."""
    network = InvertibleNetwork([4, 4], seeds=(0,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    notes = {"identity": IDENTITY, "training": as_plain(replace(NEW, id="old", started_ms=1))}
    change(notes)
    state_file.write(folder / "state.pt", state_file.snapshot(network, optimizer, 3), notes)


def begun(folder: Path, store: str = "") -> resuming.Begun:
    return resuming.begin(folder, KEY, IDENTITY, NEW, torch.device("cpu"), store)


def test_a_state_of_the_same_training_is_gone_on_with(tmp_path: Path) -> None:
    kept(tmp_path, lambda notes: notes.update(more=1))
    found = begun(tmp_path)
    assert found.training.id == "old"
    assert found.state is not None and found.state["epoch"] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda notes: notes["training"].pop("started_ms"),
        lambda notes: notes["training"].update(more=1),
        lambda notes: notes["training"].update(epochs=[{"number": 1}]),
        lambda notes: notes.pop("training"),
        lambda notes: notes.pop("identity"),
        lambda notes: notes.update(identity=None),
    ],
)
def test_another_versions_record_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Any], object]
) -> None:
    kept(tmp_path, change)
    assert begun(tmp_path) == resuming.Begun(NEW, None, None, None)
    assert "is a state of other form; training begins anew" in capsys.readouterr().err


def test_a_state_of_another_training_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, lambda notes: notes.update(identity={**IDENTITY, "params": "q"}))
    assert begun(tmp_path) == resuming.Begun(NEW, None, None, None)
    assert "is a state of other params; training begins anew" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"identity": {"params": "p", "code": "c"}}'])
def test_what_was_begun_by_another_version_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "training.json").write_text(text)
    assert begun(tmp_path) == resuming.Begun(NEW, None, None, None)


def test_another_mlflow_store_is_told_as_long_as_the_training_is_the_same(tmp_path: Path) -> None:
    assert begun(tmp_path, "http://a").store is None
    kept(tmp_path, lambda notes: notes["training"].update(id="new"))
    assert begun(tmp_path, "http://a").store is None
    assert begun(tmp_path, "http://b").store == "http://a"
    assert begun(tmp_path, "http://b").store is None
    kept(tmp_path, lambda notes: notes["training"].update(id="other"))
    assert begun(tmp_path, "http://c")[2:] == ("new", "http://b")
