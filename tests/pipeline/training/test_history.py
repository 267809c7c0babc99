"""A history is read back as it was written."""

from __future__ import annotations

from pathlib import Path

from pipeline.training import history


def test_every_number_is_read_to_its_last_bit(tmp_path: Path) -> None:
    """By pandas' own parser, which missed some of these until pandas 3."""
    written = [(0.1 * number) ** 7 / 3 for number in range(1, 2000)]
    history.write(tmp_path / "history.csv", [{"epoch": 1, "train_loss": x} for x in written])
    assert history.read(tmp_path / "history.csv").train_loss.tolist() == written
