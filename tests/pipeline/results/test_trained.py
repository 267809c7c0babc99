"""A model that params.yaml does not describe is not shown as one that it does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipeline.preloaded import Preloaded

MODEL = Path("models", "digits", "digits", "square", "gait")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("orthogonality: 0.1", "orthogonality: 0.7", "settings.orthogonality: 0.1, here 0.7"),
        (
            "    orthogonality: 0.1",
            "    orthogonality: 0.1\n    weight_decay: 0.3",
            "settings.weight_decay: null, here 0.3",
        ),
        ("seeds: [0, 1]", "seeds: [0, 7]", "training.seeds: [0, 1], here [0, 7]"),
        ("epochs: 2", "epochs: 3", "training.epochs: 2, here 3"),
        ("hidden_layers: 1", "hidden_layers: 2", "architecture.hidden_layers: 1, here 2"),
    ],
)
def test_refused_by_all_that_show_it(
    tmp_path: Path, reported: Path, helper: Preloaded, old: str, new: str, said: str
) -> None:
    project = tmp_path / "project"
    shutil.copytree(reported, project)
    results = project / "results" / "digits"
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    params = project / "params.yaml"
    assert old in params.read_text()
    params.write_text(params.read_text().replace(old, new))
    for command in ("evaluate", "plot", "report"):
        output = helper.run(project, command, code=2)
        assert output.startswith("gait: the model in models/digits/") and said in output
        assert output.count("\n") == 1
    assert before == {path: path.read_bytes() for path in before}


def test_other_images(tmp_path: Path, reported: Path, helper: Preloaded) -> None:
    project = tmp_path / "project"
    shutil.copytree(reported, project)
    config = project / MODEL / "config.json"
    text = config.read_text()
    start = text.index('"sha256": "') + len('"sha256": "')
    config.write_text(text[:start] + "0" * 64 + text[start + 64 :])
    output = helper.run(project, "evaluate", code=2)
    assert f"the model in {MODEL} was trained on other images of digits" in output
