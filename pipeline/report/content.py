"""What the page shows of a training, a sweep or a verification: numbers as texts, and charts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas

from pipeline.figures import model_label
from pipeline.figures.curves import count_layers
from pipeline.figures.panels import case_title
from pipeline.params.labels import (
    loss_text,
    model_name,
    other_settings,
    regularizer_of,
    setting_name,
    spread_text,
    value_text,
)
from pipeline.params.looks import look_of
from pipeline.params.schema import Params
from pipeline.report import rules_table
from pipeline.report.charts.chart_look import dash_lengths, layer_colours
from pipeline.report.charts.claim_charts import FORMS, PRECISIONS, leaky_rows
from pipeline.report.charts.layer_charts import alignment, orthogonality
from pipeline.report.charts.sweep_charts import heat_maps, swept_axes
from pipeline.report.charts.training_charts import final_errors, learning
from pipeline.report.evidence import Evidence, Sweep
from pipeline.report.verdicts import size, theorem_verdict
from pipeline.results import seeds_table, summary_tables
from pipeline.results.trial_edges import edges
from pipeline.results.trial_ranking import best_trial, swept_settings
from pipeline.training.epochs import STOPPED

MOST_LAYERS = 10
"""Of more, not all are named in a key."""


def case_content(evidence: Evidence, dataset: str, architecture: str) -> dict[str, Any]:
    """What is shown of one data set and architecture."""
    params = evidence.params
    case = (dataset, architecture)
    keys = [key for key in evidence.histories if (key.dataset, key.architecture) == case]
    histories = {key.model: evidence.histories[key] for key in keys}
    results = {key.model: evidence.models[key]["result"] for key in keys}
    seeds = seeds_table.of_case(evidence.seeds, dataset, architecture)
    name = f"{dataset}-{architecture}"
    return {
        "alignment": alignment(params, name, histories),
        "final": final_errors(params, name, seeds),
        "layers": _layers(count_layers(next(iter(histories.values())))),
        "learning": learning(params, name, histories, results),
        "orthogonality": orthogonality(params, name, histories),
        "others": any(other_settings(params, model) for model in params.models()),
        "rows": [
            _row(params, row, seeds[seeds.model == row["model"]])
            for row in summary_tables.summarize(params, seeds).to_dict("records")
        ],
        "rules": rules_table.rows(evidence, dataset, architecture),
        "title": case_title(dataset, architecture),
    }


def _row(params: Params, row: Mapping[str, Any], seeds: pandas.DataFrame) -> dict[str, Any]:
    accuracies = seeds.set_index("seed").test_accuracy
    gamma = params.gamma_of(row["model"])
    return {
        "gamma": "–" if gamma is None else value_text(gamma),
        "learning_rate": value_text(row["learning_rate"]),
        "name": model_name(params, row["model"]),
        "orthogonality": regularizer_of(params, row["model"]),
        "other": other_settings(params, row["model"]) or "–",
        "seeds": [f"{100 * accuracies[seed]:.2f}" for seed in params.training.seeds],
        "test_accuracy": spread_text(row, "test_accuracy", 100, 2),
        "test_loss": loss_text(row),
        "train_accuracy": spread_text(row, "train_accuracy_final", 100, 2),
    }


def model_look(params: Params, model: str) -> dict[str, Any]:
    """How a model is named and drawn."""
    return {
        "colour": look_of(params, model).colour,
        "dashes": dash_lengths(params, model),
        "label": model_label(params, model),
        "name": model,
    }


def _layers(count: int) -> list[dict[str, Any]]:
    """The key to the layers' colours: all of them, or some of many."""
    step = math.ceil(count / MOST_LAYERS)
    numbers = sorted({*range(1, count + 1, step), count})
    colours = layer_colours(count)
    return [{"number": number, "colour": colours[number - 1]} for number in numbers]


def depth_rows(verification: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a leaky network: both precisions of both forms."""
    networks: dict[str, dict[str, Any]] = {}
    for row in leaky_rows(verification):
        networks.setdefault(row["network"], {})[row["precision"]] = row
    return [
        {
            "network": network,
            "values": [rows[p][form] for form in FORMS for p in PRECISIONS],
            "verdict": theorem_verdict(rows.values()),
        }
        for network, rows in networks.items()
    ]


def lost(verification: Mapping[str, Any]) -> dict[str, str]:
    """By precision, the first network whose update, as published, is all error."""
    lost: dict[str, str] = {}
    for row in leaky_rows(verification):
        if size(row["literal"]) >= 1:
            lost.setdefault(row["precision"], row["network"])
    return {name: lost[name] for name in PRECISIONS if name in lost}


def sweep_content(params: Params, sweep: Sweep) -> dict[str, Any]:
    """A sweep's heat maps and its best trials, and which of these lie on an edge."""
    names = swept_settings(sweep.trials)
    _, _, hidden = swept_axes(sweep.trials)
    return {
        "best": [
            {
                "accuracy": spread_text(row, "validation_accuracy", 100, 2),
                "rule": model_name(params, str(rule)),
                "run": sweep.runs.get(row["trial"]),
                "values": [value_text(row[name]) for name in names],
            }
            for rule, trials in sweep.trials.groupby("rule", sort=False)
            if (row := best_trial(trials))
        ],
        "charts": heat_maps(params, sweep),
        "edges": [f"{edge}." for edge in edges(params, sweep.trials)],
        "epochs": int(sweep.trials.epochs.max()),
        "hidden": [setting_name(name) for name in hidden],
        "name": sweep.folder.name,
        "settings": [setting_name(name) for name in names],
        "single": bool(sweep.trials.validation_accuracy_std.isna().all()),
        "stopped": bool((sweep.trials.status == STOPPED).any()),
        "trials": len(sweep.trials),
    }
