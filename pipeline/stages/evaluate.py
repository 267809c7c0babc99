"""Evaluate stage: every trained model meets the test set, once; tables for people and programs."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import pandas

from gaitprop.training import evaluate
from pipeline import checkpoint, data, delivery, history, provenance, summary, tracking
from pipeline.checkpoint import result_checksum
from pipeline.config import Params
from pipeline.errors import GaitError
from pipeline.experiment import choose_device, choose_numerics
from pipeline.files import write_whole
from pipeline.project import ModelKey, data_file, model_keys, results_folder
from pipeline.unfinished import STATES

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEEDS = "seeds.csv"
# What decides the tables, beside the library.
CODE = (
    "checkpoint.py",
    "data.py",
    "history.py",
    "image_sets.py",
    "labels.py",
    "stages/evaluate.py",
    "summary.py",
)
TEST_FIGURES = ("test_accuracy", "test_loss")


def run(params: Params) -> list[Path]:
    """Writes results/<profile>/{summary.json, summary.csv, summary.md, seeds.csv, curves.csv,
    provenance.json}.

    Raises:
        GaitError: a model or its data is missing or damaged.
    """
    keys = model_keys(params)
    for key in keys:
        if not (key.folder / checkpoint.CONFIG).is_file():
            raise GaitError(
                f"there is no trained model in {key.folder}: run `gait train {key.dataset}"
                f" {key.architecture} {key.model}`, or `gait repro` for all of them"
            )
    for key in keys:
        checkpoint.check(key.folder)
    seeds = pandas.concat([evaluate_model(params, key) for key in keys], ignore_index=True)
    models = summary.summarize(params, seeds)
    folder = results_folder(params.profile)
    folder.mkdir(parents=True, exist_ok=True)
    curves = pandas.concat([mean_curve(key) for key in keys], ignore_index=True)
    tables = {
        "summary.json": json.dumps(summary.as_metrics(models), indent=2, sort_keys=True) + "\n",
        "summary.csv": _csv(models),
        "summary.md": summary.as_markdown(params, models),
        SEEDS: _csv(seeds),
        "curves.csv": _csv(curves),
    }
    contents = {name: text.encode() for name, text in tables.items()}
    made = provenance.describe("gait evaluate", params, keys, CODE, contents)
    contents[provenance.FILE] = provenance.as_bytes(made)
    for name, content in contents.items():
        write_whole(folder / name, content)
    try:
        _track(params, seeds)
    except GaitError as error:
        # The tables are complete; to lose them for a server that is away would help nobody.
        print(f"{error}; `gait repro` adds the test figures later", file=sys.stderr)
    return [folder / name for name in contents]


def complete_runs(params: Params) -> None:
    """Gives the runs that lack them the test figures of seeds.csv; evaluates nothing.

    Where training gives the very model that dvc.lock knows, DVC has no reason to evaluate it again,
    but the new MLflow runs want its figures all the same.

    Trainings that MLflow could not be told of come first.

    Raises:
        GaitError: the tracking store cannot be used.
    """
    delivery.deliver_kept(STATES / params.profile)
    path = results_folder(params.profile) / SEEDS
    if path.is_file():
        _track(params, pandas.read_csv(path))


def deliver_what_can_be(params: Params) -> None:
    """Tells MLflow of earlier trainings while their models are still there, if it listens."""
    with contextlib.suppress(GaitError):
        delivery.deliver_kept(STATES / params.profile)


def evaluate_model(params: Params, key: ModelKey) -> pandas.DataFrame:
    """One row a seed: test loss and accuracy, training accuracy at its end and at its peak.

    ``result`` identifies the model's files, and is the tag of the MLflow runs that made them.
    """
    images = data.load(data_file(key.profile, key.dataset))
    choose_numerics(params)
    device = choose_device(params.training.device)
    network = checkpoint.load_network(key.folder / checkpoint.NETWORK, device)
    test_images, test_labels = data.test_set(images)
    result = evaluate(
        network,
        test_images.to(device),
        test_labels.to(device),
        images.classes,
        images.maximum,
    )
    epochs = history.read(key.folder / checkpoint.HISTORY)
    last = epochs[epochs.epoch == epochs.epoch.max()].set_index("seed")
    peak = epochs.groupby("seed").train_accuracy.max()
    order = list(network.seeds)
    return pandas.DataFrame(
        {
            "dataset": key.dataset,
            "architecture": key.architecture,
            "model": key.model,
            "seed": order,
            "test_accuracy": result.accuracy.numpy(),
            "test_loss": result.loss.numpy(),
            "train_accuracy_final": last.train_accuracy.loc[order].to_numpy(),
            "train_accuracy_peak": peak.loc[order].to_numpy(),
            "validation_accuracy_final": last.validation_accuracy.loc[order].to_numpy(),
            "result": result_checksum(key.folder),
        }
    )


def mean_curve(key: ModelKey) -> pandas.DataFrame:
    """Means over the seeds of an epoch's losses and accuracies, for `dvc plots`."""
    epochs = history.read(key.folder / checkpoint.HISTORY)
    quantities = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    means = epochs.groupby("epoch")[quantities].mean().reset_index()
    # Twelve digits: the mean of a sum may differ in the last bits between pandas versions.
    means = means.round(12).replace({numpy.nan: None})
    means.insert(0, "model", str(key))
    return means


def _csv(table: pandas.DataFrame) -> str:
    return str(table.to_csv(index=False, lineterminator="\n"))


def _track(params: Params, seeds: pandas.DataFrame) -> None:
    """Adds the test figures to the runs that made these models, where this store has them."""
    client, experiment_id = tracking.open_experiment(params.profile)
    with tracking.explained():
        _add_test_figures(client, experiment_id, seeds, params.training.epochs)


def _add_test_figures(
    client: MlflowClient, experiment_id: str, seeds: pandas.DataFrame, step: int
) -> None:
    for result, of_model in seeds.groupby("result"):
        rows = of_model.set_index("seed")[list(TEST_FIGURES)]
        for run in tracking.find_runs(client, experiment_id, str(result)):
            if set(TEST_FIGURES) <= set(run.data.metrics):
                continue
            seed = run.data.params.get("seed")
            values = rows.mean() if seed is None else rows.loc[int(seed)]
            figures = {name: float(value) for name, value in values.items()}
            tracking.log_metrics(client, run.info.run_id, figures, step)
