"""The page: evidence and verdicts, put into the templates beside this file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline import summary
from pipeline.config import Params
from pipeline.data import IMAGE_SETS
from pipeline.equivalence import MARGIN, MOST_SEEDS, POWER
from pipeline.figures import model_label
from pipeline.figures.curves import count_layers
from pipeline.figures.style import look_of
from pipeline.labels import model_name, rule_name, setting_name, spread_text, value_text
from pipeline.project import ModelKey
from pipeline.report import charts
from pipeline.report.charts import Chart
from pipeline.report.charts.look import dash_lengths
from pipeline.report.claims import (
    EQUIVALENT,
    IDENTICAL,
    INFERIOR,
    Claim,
    size,
    theorem_verdict,
)
from pipeline.report.evidence import Evidence, Sweep
from pipeline.sweep.ranking import best_trial, swept_settings

TEMPLATES = Path(__file__).parent / "templates"
MLFLOW = "http://127.0.0.1:5000"
"""Where `gait ui` shows MLflow's pages."""

MOST_LAYERS = 10
"""Of more, not all are named in a key."""

SHORT = {
    IDENTICAL: "Are the updates BP’s, for orthogonal weights?",
    EQUIVALENT: "Does GAIT-prop train as BP does?",
    INFERIOR: "And does plain target propagation not?",
}


def render(evidence: Evidence, claims: list[Claim]) -> str:
    """The whole page; the same for the same evidence."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    params = evidence.params
    by_name = {claim.name: claim for claim in claims}
    content = {
        "cases": [_case(evidence, *case) for case in _cases(params)],
        "checksums": {str(key): checksums for key, checksums in evidence.models.items()},
        "claims": [{**vars(claim), "short": SHORT[claim.name]} for claim in claims],
        "depth_chart": evidence.verification and charts.error_against_depth(evidence.verification),
        "depth_rows": evidence.verification and _depth_rows(evidence.verification),
        "equivalence_chart": _differences(by_name[EQUIVALENT], "equivalence", ("low", "high")),
        "inferiority_chart": _differences(
            by_name[INFERIOR], "inferiority", ("difference_low", "difference_high")
        ),
        "inputs": evidence.inputs,
        "lost": evidence.verification and _lost(evidence.verification),
        "models": [_model(params, model) for model in params.models()],
        "sweeps": [_sweep(sweep) for sweep in evidence.sweeps],
        "verification": evidence.verification,
    }
    specifications = {chart.name: chart.spec for chart in _charts_in(content)}
    return environment.get_template("page.html").render(
        **content,
        margin=MARGIN,
        mlflow=MLFLOW,
        most_seeds=MOST_SEEDS,
        params=params,
        points=lambda share: f"{100 * share:.3g}",
        power=POWER,
        scientific=_scientific,
        script=_inline("charts.js"),
        settings=json.dumps(params.model_dump(exclude={"archives", "sweep"}), indent=2),
        signed=lambda share: f"{100 * share:+.2f}".replace("-", "−"),
        specifications=_json(specifications),
        style=_inline("style.css"),
        titles=[IMAGE_SETS[dataset].title for dataset in params.run.datasets],
        training=params.training,
        vega=_vega(),
    )


def _cases(params: Params) -> list[tuple[str, str]]:
    run = params.run
    return [(dataset, name) for dataset in run.datasets for name in run.architectures]


def _case(evidence: Evidence, dataset: str, architecture: str) -> dict[str, Any]:
    """What is shown of one data set and architecture."""
    params = evidence.params
    histories = {
        key.model: table
        for key, table in evidence.histories.items()
        if (key.dataset, key.architecture) == (dataset, architecture)
    }
    results = {
        model: evidence.models[ModelKey(params.profile, dataset, architecture, model)]["result"]
        for model in histories
    }
    seeds = evidence.seeds
    seeds = seeds[(seeds.dataset == dataset) & (seeds.architecture == architecture)]
    name = f"{dataset}-{architecture}"
    return {
        "alignment": charts.alignment(params, name, histories),
        "final": charts.final_errors(params, name, seeds),
        "layers": _layers(count_layers(next(iter(histories.values())))),
        "learning": charts.learning(params, name, histories, results),
        "orthogonality": charts.orthogonality(params, name, histories),
        "rows": [
            _row(params, row, seeds[seeds.model == row["model"]])
            for row in summary.summarize(params, seeds).to_dict("records")
        ],
        "title": f"{IMAGE_SETS[dataset].title}, {architecture}",
    }


def _row(params: Params, row: Mapping[str, Any], seeds: Any) -> dict[str, Any]:
    accuracies = seeds.set_index("seed").test_accuracy
    return {
        "learning_rate": value_text(row["learning_rate"]),
        "name": model_name(params, row["model"]),
        "orthogonality": value_text(row["orthogonality"]),
        "seeds": [f"{100 * accuracies[seed]:.2f}" for seed in params.training.seeds],
        "test_accuracy": spread_text(row, "test_accuracy", 100, 2),
        "test_loss": spread_text(row, "test_loss", 1, 4),
        "train_accuracy": spread_text(row, "train_accuracy_final", 100, 2),
    }


def _model(params: Params, model: str) -> dict[str, Any]:
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
    colours = charts.layer_colours(count)
    return [{"number": number, "colour": colours[number - 1]} for number in numbers]


def _differences(claim: Claim, name: str, interval: tuple[str, str]) -> Chart | None:
    shown = [finding for finding in claim.findings if finding.differences]
    return charts.differences(name, shown, interval) if shown else None


def _depth_rows(verification: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a leaky network: both precisions of both forms."""
    tolerances = verification["settings"]["tolerances"]
    networks: dict[str, dict[str, Any]] = {}
    for row in verification["comparisons"]:
        if (row["rule"], row["activation"]) == ("gait", "leaky_relu"):
            networks.setdefault(row["network"], {})[row["precision"]] = row
    return [
        {
            "network": network,
            "values": [rows[p][form] for form in charts.FORMS for p in charts.PRECISIONS],
            "verdict": theorem_verdict(rows.values(), tolerances),
        }
        for network, rows in networks.items()
    ]


def _lost(verification: Mapping[str, Any]) -> dict[str, str]:
    """By precision, the first network whose update, as published, is all error."""
    lost: dict[str, str] = {}
    for row in verification["comparisons"]:
        if (row["rule"], row["activation"]) == ("gait", "leaky_relu") and size(row["literal"]) >= 1:
            lost.setdefault(row["precision"], row["network"])
    return {name: lost[name] for name in charts.PRECISIONS if name in lost}


def _sweep(sweep: Sweep) -> dict[str, Any]:
    names = swept_settings(sweep.trials)
    best = [
        (str(rule), best_trial(trials)) for rule, trials in sweep.trials.groupby("rule", sort=False)
    ]
    return {
        "best": [
            {
                "accuracy": spread_text(row, "validation_accuracy", 100, 2),
                "rule": rule_name(rule),
                "run": sweep.runs.get(row["trial"]),
                "values": [value_text(row[name]) for name in names],
            }
            for rule, row in best
            if row is not None
        ],
        "charts": charts.heat_maps(sweep),
        "name": sweep.folder.name,
        "settings": [setting_name(name) for name in names],
        "trials": len(sweep.trials),
    }


def _charts_in(content: Any) -> list[Chart]:
    if isinstance(content, Chart):
        return [content]
    if isinstance(content, Mapping):
        content = list(content.values())
    if isinstance(content, list):
        return [chart for item in content for chart in _charts_in(item)]
    return []


def _scientific(value: float | None) -> str:
    if value is None:
        return "not finite"
    if 0.01 <= abs(value) < 1000:
        return f"{value:.2g}"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def _inline(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _json(content: Any) -> Markup:
    """For a script element, which nothing in it can end."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return Markup(text.replace("<", "\\u003c"))


def _vega() -> Markup:
    """Vega, Vega-Lite and their embedding: all the page's charts need."""
    code = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in code.lower() or "<!--" in code:
        raise ValueError("vl_convert's bundle cannot stand in a script element as it is")
    return Markup(code)
