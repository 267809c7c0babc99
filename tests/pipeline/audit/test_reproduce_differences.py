"""Two trainings are called identical only if every file of theirs is."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.audit import reproduce_differences
from tests.pipeline.results.test_trained import MODEL


def test_the_config_alone(tmp_path: Path, reported: Path) -> None:
    old, new = reported / MODEL, tmp_path / "again"
    shutil.copytree(old, new)
    assert reproduce_differences.of_models(old, new) == []
    config = new / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"orthogonality": 0.1', '"orthogonality": 0.2'))
    assert [each[:2] for each in reproduce_differences.of_models(old, new)] == [
        ("settings.orthogonality", "config.json")
    ]
    config.write_text(text + "\n")
    assert [each[:2] for each in reproduce_differences.of_models(old, new)] == [
        ("the model's files", "their bytes")
    ]
