"""What a training left behind: files of the model, runs in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import MlflowClient

MODEL = Path("models", "digits", "digits", "square", "gait")
STATE = Path("states", "digits", "digits", "square", "gait")


def files(folder: Path, model: Path = MODEL) -> dict[str, bytes]:
    """The bytes of every file of the model."""
    return {path.name: path.read_bytes() for path in (folder / model).iterdir()}


def runs(folder: Path, uri: str | None = None) -> list[Any]:
    """All runs of the profile."""
    client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def check_one_history(
    folder: Path, epochs: int, seeds: int = 2, uri: str | None = None, artifacts: bool = True
) -> None:
    """One parent run, one nested run a seed, all finished; every curve has every step once."""
    client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
    found = runs(folder, uri)
    assert [run.info.status for run in found] == ["FINISHED"] * (seeds + 1)
    parents = [run for run in found if run.data.tags["gait.level"] == "model"]
    assert len(parents) == 1
    for run in found:
        if run is not parents[0]:
            assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.data.params["training.epochs"] == str(epochs)
        for name in ("validation_accuracy", "validation_loss", "train_loss"):
            points = client.get_metric_history(run.info.run_id, name)
            first = 1 if name == "train_loss" else 0
            assert [point.step for point in points] == list(range(first, epochs + 1)), name
    assert len(client.get_metric_history(parents[0].info.run_id, "duration_s")) == 1
    if artifacts:
        names = {file.path for file in client.list_artifacts(parents[0].info.run_id)}
        assert names == {"config.json", "curves.svg", "history.csv", "network.safetensors"}
        models = client.search_logged_models([parents[0].info.experiment_id])
        assert [model.status for model in models] == ["READY"]
        assert models[0].source_run_id == parents[0].info.run_id


def check_nothing_left(folder: Path) -> None:
    """No state, no half-written file or folder."""
    left = [path for path in (folder / "states").rglob("*") if path.is_file()]
    assert [path.name for path in left if not path.name.endswith(".lock")] == []
    assert not list(folder.rglob(".incomplete-*"))
    assert not list(folder.rglob("*.tmp"))
