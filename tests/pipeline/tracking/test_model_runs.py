"""The figures in MLflow are those of the model's files, by plain lines of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.pipeline.plain_figures import rows
from tests.pipeline.trained import MODEL, runs


def test_every_point_of_every_curve(reported: Path) -> None:
    history = rows(reported / MODEL / "history.csv")
    client = MlflowClient(f"sqlite:///{reported / 'mlflow.db'}")
    own = [run for run in runs(reported) if run.data.tags["gait.model"] == "gait"]
    assert sorted(run.data.params.get("seed", "all") for run in own) == ["0", "1", "all"]
    quantities = [name for name in history[-1] if name not in ("epoch", "seed")]
    assert len(quantities) > 4
    for run in own:
        seeds = run.data.params.get("seed", "01")
        for quantity in quantities:
            expected: dict[int, float] = {}
            for row in history:
                if row["seed"] in seeds and row[quantity]:
                    step = int(row["epoch"])
                    share = float(row[quantity]) / len(seeds)
                    expected[step] = expected.get(step, 0.0) + share
            name = re.sub(r"_layer_(\d+)$", r"/layer_\1", quantity)
            points = client.get_metric_history(run.info.run_id, name)
            assert [point.step for point in points] == sorted(expected), name
            for point in points:
                assert point.value == pytest.approx(expected[point.step], rel=1e-12), name


def test_the_test_figures(reported: Path) -> None:
    table = rows(reported / "results" / "digits" / "seeds.csv")
    for run in runs(reported):
        seeds = run.data.params.get("seed", "01")
        model = run.data.tags["gait.model"]
        own = [row for row in table if row["model"] == model and row["seed"] in seeds]
        for name in ("test_accuracy", "test_loss"):
            values = [float(row[name]) for row in own]
            assert len(values) == len(seeds)
            mean = sum(values) / len(values)
            assert run.data.metrics[name] == pytest.approx(mean, rel=1e-12)
