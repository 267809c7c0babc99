"""What a sweep leaves to read: results/<profile>/sweep/<name>, all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas

from pipeline import figures
from pipeline.figures.panels import case_title
from pipeline.params.labels import model_names
from pipeline.params.schema import Params
from pipeline.project.files import as_json, whole_folder
from pipeline.results import provenance
from pipeline.results.trial_ranking import in_file_order
from pipeline.sweep import sweep_summary, winners
from pipeline.sweep.trial_records import Record
from pipeline.training.epochs import FINISHED, STOPPED, kept

# What decides them, beside the trials and the library.
CODE = ("data", "figures", "params", "results", "sweep", "training")
HEAT_MAP, BEST_SO_FAR = "heatmap.svg", "best_so_far.svg"


def table(params: Params, ended: Iterable[Record]) -> pandas.DataFrame:
    """Records as ``pipeline.results.trial_ranking`` describes it; no figures of failed trials."""
    return pandas.DataFrame([_row(list(params.sweep.space), record) for record in ended])


def whole(folder: Path) -> bool:
    """Whether the folder holds a sweep's results as they were written."""
    try:
        files = json.loads((folder / provenance.FILE).read_bytes())["files"]
        return all(
            provenance.sha256((folder / name).read_bytes()) == known
            for name, known in files.items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def write(
    params: Params,
    folder: Path,
    trials: pandas.DataFrame,
    run_ids: Mapping[str, str],
    missing: int = 0,
) -> None:
    """Writes tables, summary, winners and figures; whatever the folder held is replaced.

    Equal trials give equal bytes: only runs.csv, best.yaml (MLflow's run ids) and best_so_far.svg
    (the order of ending) know more than the trials.

    ``trials`` are as ``table`` has them, in the order in which they ended, and ``missing`` so many
    that have not; ``run_ids`` are MLflow's of their runs, as far as they are known.
    """
    sweep = params.sweep
    # Where every trial failed, a column is all None, and no column of numbers.
    kinds = {name: float for name in trials.columns if name.endswith(("_mean", "_std"))}
    ended = trials.astype({**kinds, "epochs": "Int64"})
    ordered = in_file_order(ended, sweep.rules)
    title = case_title(sweep.dataset, sweep.architecture)
    names = model_names(params, sweep.rules)
    drawn = {
        HEAT_MAP: figures.heat_map(ordered, names, sweep.space, title),
        BEST_SO_FAR: figures.best_accuracies(ended, names, title, list(params.rules)),
    }
    captions = {
        HEAT_MAP: "Validation accuracy of every trial, a panel a rule",
        BEST_SO_FAR: "Best validation accuracy so far against the trials that have ended",
    }
    runs = pandas.DataFrame(
        {"trial": ordered.trial, "mlflow_run_id": [run_ids.get(trial) for trial in ordered.trial]}
    )
    texts = {
        "trials.csv": ordered.to_csv(index=False),
        "runs.csv": runs.to_csv(index=False),
        "summary.md": sweep_summary.as_markdown(params, ordered, captions, missing),
        winners.FILE: winners.as_text(winners.of_trials(params, ordered, run_ids, missing)),
    }
    with whole_folder(folder) as temporary:
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
        for name, figure in drawn.items():
            figure.savefig(temporary / name)
        contents = {name: (temporary / name).read_bytes() for name in (*texts, *drawn)}
        made = provenance.describe("gait sweep", params, [], CODE, contents, sweep=True)
        (temporary / provenance.FILE).write_bytes(as_json(made))


def _row(names: list[str], record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": record.trial, "rule": record.rule}
    row |= {name: record.values[name] for name in names}
    last = kept(record.epochs) if record.epochs else None
    row |= {"status": record.status, "epochs": last.epoch if last else 0}
    shown = last if record.status in (FINISHED, STOPPED) else None
    for quantity in ("validation_accuracy", "validation_loss"):
        row[f"{quantity}_mean"] = shown.mean(quantity) if shown else None
        row[f"{quantity}_std"] = shown.spread(quantity) if shown else None
    row["train_accuracy_mean"] = shown.mean("train_accuracy") if shown else None
    row["failure"] = record.failure
    return row
