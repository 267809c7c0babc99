"""Plot stage: figures for readers, from the tables that training and evaluation wrote."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pandas
from matplotlib.figure import Figure

from pipeline import figures
from pipeline.figures.panels import case_title
from pipeline.params.schema import Params
from pipeline.project.files import as_json, whole_folder, write_whole
from pipeline.project.paths import ModelKey, results_folder
from pipeline.results import provenance, seeds_table, trained
from pipeline.training import history, model_files

PLOTS = "plots"
# What decides the figures.
CODE = ("data", "figures", "params", "results", "stages/plot.py", "training")


def run(params: Params) -> list[Path]:
    """Writes results/<profile>/plots/*.svg, all of them or none.

    Raises:
        GaitError: a model or the evaluation's table is missing or is not what params.yaml asks for.
    """
    keys = params.model_keys()
    for key in keys:
        trained.check(params, key)
    histories = {key: history.read(key.folder / model_files.HISTORY) for key in keys}
    seeds = seeds_table.read_of_models(params, keys)
    drawn = draw(params, histories, seeds)
    folder = results_folder(params.profile) / PLOTS
    with whole_folder(folder) as temporary:
        for name, figure in drawn.items():
            figure.savefig(temporary / name)
        contents = {name: (temporary / name).read_bytes() for name in drawn}
    made = provenance.describe("gait plot", params, keys, CODE, contents)
    # Not among them: `dvc plots` takes whatever lies there for a plot.
    beside = folder.with_name(f"{PLOTS}.{provenance.FILE}")
    write_whole(beside, as_json(made))
    return [*(folder / name for name in drawn), beside]


def draw(
    params: Params, histories: Mapping[ModelKey, pandas.DataFrame], seeds: pandas.DataFrame
) -> dict[str, Figure]:
    """Every figure of a profile, by file name."""
    drawn = {
        "final_accuracy.svg": figures.final_accuracy(params, seeds),
        "learning_curves.svg": figures.learning_curves(params, histories),
    }
    for case in itertools.product(params.run.datasets, params.run.architectures):
        models = {
            key.model: table
            for key, table in histories.items()
            if (key.dataset, key.architecture) == case
        }
        title, file = case_title(*case), f"{'-'.join(case)}.svg"
        if any(params.rule_of(model) != "bp" for model in models):
            drawn[f"alignment-{file}"] = figures.alignment(params, models, title)
        drawn[f"orthogonality-{file}"] = figures.orthogonality(params, models, title)
        if figures.can_draw_trade_off(params):
            of_case = seeds_table.of_case(seeds, *case)
            drawn[f"trade_off-{file}"] = figures.trade_off(params, models, of_case, title)
    return drawn
