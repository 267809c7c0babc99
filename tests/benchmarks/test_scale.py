"""The benchmarks that use the whole pipeline run, and what they write becomes tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import epoch, report, scale


def test_parts_of_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = epoch.measure(120, 3, scale.TINY)
    assert set(parts) == {"steps", "evaluation", "records"}
    assert all(len(seconds) == 3 for seconds in parts.values())
    # Evaluation is the rest: below 0, should the one step that is measured be a slow one.
    assert min(parts["steps"] + parts["records"]) > 0


def test_growth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scale, "IMAGES", (500, 2000))
    monkeypatch.setattr(scale, "EPOCHS", 20)
    monkeypatch.setattr(scale, "TENTH", 2)
    monkeypatch.setattr(scale, "TRIALS", (40, 80))
    path = tmp_path / "scale.json"
    monkeypatch.setattr("sys.argv", ["scale", str(path)])
    scale.main()
    document = json.loads(path.read_text())
    counts = {kind: [row["count"] for row in rows] for kind, rows in document["growth"].items()}
    assert counts == {"images": [500, 2000], "epochs": [2, 10, 20], "trials": [40, 80]}
    assert all(row["seconds"] > 0 for rows in document["growth"].values() for row in rows)
    table = report.tables(document)["growth"]
    assert "| images read and split | 2,000 |" in table


def test_where_the_time_of_repro_goes() -> None:
    document = {
        "machine": {"device": "x", "threads": 2, "python": "3", "torch": "2", "date": "today"},
        "repro": [
            {"jobs": jobs, "seconds": 90.0 / jobs, "training_s": 40.04, "imports_s": 20.0}
            for jobs in (1, 2)
        ],
    }
    table = report.tables(document)["repro"]
    assert "| 1 | 90.0 | 40.0 | 20.0 |\n| 2 | 45.0 | 40.0 | 20.0 |" in table


def test_an_exponent_is_that_of_a_power() -> None:
    assert report._exponent([2, 4], [8.0, 64.0]) == "3.00"
    assert report._exponent([2, 4], [None, 64.0]) == "–"
