"""What is said of a training while it goes on, where nobody looks at a terminal."""

from __future__ import annotations

import pytest

from pipeline.training import progress_bar
from pipeline.training.progress_bar import TrainingProgress


def train(behind: int) -> None:
    with TrainingProgress("digits/square/gait", 3, 4, behind) as progress:
        for epoch in range(behind, 3):
            for _ in range(4):
                progress.step(1)
            progress.epoch(epoch + 1, 0.5)


def test_lines_say_epoch_and_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_bar, "LINE_S", 0)
    train(behind=1)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        f"digits/square/gait: epoch {epoch} of 3, step {step} of 4"
        for epoch in (2, 3)
        for step in (1, 2, 3, 4)
    ]
    # None is known before the first epoch of a training that goes on.
    assert lines[0].endswith(" a second)")
    assert lines[-1].endswith("validation accuracy 50.00%")
    assert "2 epochs in" in said.out


def test_a_short_training_says_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    train(behind=0)
    said = capsys.readouterr()
    assert said.err == ""
    assert len(said.out.splitlines()) == 1
