"""Evaluate stage: every trained model meets the test set, once; tables for people and programs."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pandas

from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.files import as_json, whole_folder
from pipeline.project.paths import results_folder
from pipeline.results import provenance, seeds_table, summary_tables, trained
from pipeline.results.evaluation import evaluate_model, mean_curve
from pipeline.tracking import delivery, store
from pipeline.training.experiment import choose_numerics
from pipeline.training.resuming import STATES

# What decides the tables, beside the library.
CODE = ("data", "params", "results", "stages/evaluate.py", "training")
METRICS = "metrics"
TEST_FIGURES = ("test_accuracy", "test_loss")


def run(params: Params) -> list[Path]:
    """Writes results/<profile>/{summary.json, summary.csv, summary.md, seeds.csv, curves.csv,
    provenance.json}, and metrics/ for `dvc metrics`, a file a model.

    Raises:
        GaitError: a model or its data is missing or damaged.
    """
    # Before a model is read, which copies tensors: PyTorch's first work settles its kernels.
    choose_numerics(params)
    keys = params.model_keys()
    for key in keys:
        trained.check(params, key)
    seeds = pandas.concat([evaluate_model(params, key) for key in keys], ignore_index=True)
    models = summary_tables.summarize(params, seeds)
    folder = results_folder(params.profile)
    curves = pandas.concat([mean_curve(key) for key in keys], ignore_index=True)
    contents = {
        "summary.json": as_json(summary_tables.as_tree(models)),
        "summary.csv": _csv(models),
        "summary.md": summary_tables.as_markdown(params, models).encode(),
        seeds_table.FILE: _csv(seeds),
        "curves.csv": _csv(curves),
    }
    made = provenance.describe("gait evaluate", params, keys, CODE, contents)
    paths = provenance.write(folder, contents, made)
    with whole_folder(folder / METRICS) as metrics:
        for name, figures in summary_tables.as_metrics(models).items():
            (metrics / f"{name}.json").write_bytes(as_json(figures))
    try:
        _track(params, seeds)
    except GaitError as error:
        # The tables are complete; to lose them for a server that is away would help nobody.
        print(f"{error}; `gait repro` adds the test figures later", file=sys.stderr)
    return paths


def complete_runs(params: Params) -> None:
    """Gives the runs that lack them the test figures of seeds.csv; evaluates nothing.

    Where training gives the very model that dvc.lock knows, DVC has no reason to evaluate it again,
    but the new MLflow runs want its figures all the same.

    Trainings that MLflow could not be told of come first, and those that nothing goes on with.

    Raises:
        GaitError: the tracking store cannot be used.
    """
    delivery.deliver_kept(STATES / params.profile)
    delivery.end_abandoned(params.profile)
    path = seeds_table.path_of(params)
    if path.is_file():
        _track(params, seeds_table.read(path))


def deliver_what_can_be(params: Params) -> None:
    """Tells MLflow of earlier trainings while their models are still there, if it listens."""
    with contextlib.suppress(GaitError):
        delivery.deliver_kept(STATES / params.profile)


def _csv(table: pandas.DataFrame) -> bytes:
    return str(table.to_csv(index=False, lineterminator="\n")).encode()


def _track(params: Params, seeds: pandas.DataFrame) -> None:
    """Adds the test figures to the runs that made these models, where this store has them."""
    opened = store.existing_experiment(params.profile)
    if opened is None:
        return
    client, experiment_id = opened
    with store.explained():
        for result, of_model in seeds.groupby("result"):
            rows = of_model.set_index("seed")[list(TEST_FIGURES)]
            for run in store.find_runs(client, experiment_id, str(result)):
                if set(TEST_FIGURES) <= set(run.data.metrics):
                    continue
                seed = run.data.params.get("seed")
                values = rows.mean() if seed is None else rows.loc[int(seed)]
                figures = {name: float(value) for name, value in values.items()}
                store.log_metrics(client, run.info.run_id, figures, params.training.epochs)
