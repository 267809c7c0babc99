"""What a sweep leaves to read: results/<profile>/sweep/<name>, all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas

from pipeline import figures
from pipeline.figures.panels import case_title
from pipeline.params.labels import model_names
from pipeline.params.schema import Params
from pipeline.project.files import as_json, whole_folder
from pipeline.results import provenance
from pipeline.results.trial_ranking import in_file_order
from pipeline.sweep import sweep_summary, winners

# What decides them, beside the trials and the library.
CODE = ("data", "figures", "params", "results", "sweep", "training")
HEAT_MAP, BEST_SO_FAR = "heatmap.svg", "best_so_far.svg"


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
    order: Sequence[str],
    run_ids: Mapping[str, str],
) -> list[Path]:
    """Writes tables, summary, winners and figures; whatever the folder held is replaced.

    Equal trials give equal bytes: only runs.csv, best.yaml (MLflow's run ids) and best_so_far.svg
    (the order of ending) know more than the trials.

    Args:
        params: of the sweep.
        folder: where to.
        trials: as ``pipeline.results.trial_ranking`` describes it, in any order.
        order: the trials' ids, as they ended.
        run_ids: MLflow's id of each trial's run, as far as they are known.

    Returns:
        The files' paths.
    """
    sweep = params.sweep
    # Where every trial failed, a column is all None, and no column of numbers.
    kinds = {name: float for name in trials.columns if name.endswith(("_mean", "_std"))}
    table = in_file_order(trials, sweep.rules).astype({**kinds, "epochs": "Int64"})
    ended = table.set_index("trial").loc[list(order)].reset_index()
    title = case_title(sweep.dataset, sweep.architecture)
    names = model_names(params, sweep.rules)
    drawn = {
        HEAT_MAP: figures.heat_map(table, names, sweep.space, title),
        BEST_SO_FAR: figures.best_accuracies(ended, names, title, list(params.rules)),
    }
    captions = {
        HEAT_MAP: "Validation accuracy of every trial, a panel a rule",
        BEST_SO_FAR: "Best validation accuracy so far against the trials that have ended",
    }
    runs = pandas.DataFrame(
        {"trial": table.trial, "mlflow_run_id": [run_ids.get(trial) for trial in table.trial]}
    )
    texts = {
        "trials.csv": table.to_csv(index=False),
        "runs.csv": runs.to_csv(index=False),
        "summary.md": sweep_summary.as_markdown(params, table, captions),
        winners.FILE: winners.as_text(winners.of_trials(params, table, run_ids)),
    }
    with whole_folder(folder) as temporary:
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
        for name, figure in drawn.items():
            figure.savefig(temporary / name)
        contents = {name: (temporary / name).read_bytes() for name in (*texts, *drawn)}
        made = provenance.describe("gait sweep", params, [], CODE, contents, sweep=True)
        (temporary / provenance.FILE).write_bytes(as_json(made))
    return [folder / name for name in (*texts, *drawn, provenance.FILE)]
