"""Tables of trials as a sweep leaves them, made up."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import pandas

from pipeline.params import params_file
from pipeline.params.schema import Params
from pipeline.sweep import yaml_text

REPOSITORY = Path(__file__).parents[2]

RULES = ("bp", "gait", "itp", "tp")
RATES = [1e-5, 1e-4, 1e-3]
LAMBDAS = [0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0]
SPACE = {"rule.learning_rate": RATES, "rule.orthogonality": LAMBDAS}
DIVERGED = (
    "training diverged in epoch {epoch}: the loss or a parameter of seed 0, 2 is no longer finite;"
    " a smaller learning_rate may help"
)
PEAK = {"bp": (0.985, -2.0), "gait": (0.98, -1.0), "itp": (0.6, 0.0), "tp": (0.5, 1.0)}


def trial_id(rule: str, values: Mapping[str, Any]) -> str:
    """Twelve hex digits that depend on the configuration alone."""
    text = json.dumps({"rule": rule, **values}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trial(rule: str, values: Mapping[str, Any], accuracy: float, **others: Any) -> dict[str, Any]:
    """A row of the table, finished unless ``others`` says otherwise."""
    return {
        "trial": trial_id(rule, values),
        "rule": rule,
        **values,
        "status": "FINISHED",
        "epochs": 15,
        "validation_accuracy_mean": accuracy,
        "validation_accuracy_std": 0.004,
        "validation_loss_mean": 0.5 * (1 - accuracy),
        "validation_loss_std": 0.002,
        "train_accuracy_mean": min(accuracy + 0.01, 1.0),
        "failure": "",
        **others,
    }


def failed(rule: str, values: Mapping[str, Any], failure: str) -> dict[str, Any]:
    """A row of a trial that has no figures."""
    empty = dict.fromkeys(
        name for name in trial(rule, {}, 0.5) if name.endswith(("_mean", "_std", "epochs"))
    )
    return trial(rule, values, numpy.nan, status="FAILED", failure=failure) | {
        name: numpy.nan for name in empty
    }


def grid(
    rules: Sequence[str] = RULES,
    space: Mapping[str, Sequence[Any]] = SPACE,
    seeds: int = 3,
) -> pandas.DataFrame:
    """A whole grid: smooth hills of accuracy with a little noise, high rates with high λ fail."""
    draw = numpy.random.default_rng(7)
    rows = []
    for rule in rules:
        best, centre = PEAK[rule]
        for values in itertools.product(*space.values()):
            named = dict(zip(space, values, strict=True))
            rate = named.get("rule.learning_rate", 1e-3)
            strength = numpy.log10(max(named.get("rule.orthogonality", 0.0), 1e-4))
            distance = 0.06 * (strength - centre) ** 2 + 0.25 * (numpy.log10(rate) + 3) ** 2
            accuracy = 0.1 + (best - 0.1) * numpy.exp(-0.3 * distance) - 0.01 * draw.random()
            if strength > 1 and rate > 5e-4 and rule != "bp":
                rows.append(failed(rule, named, DIVERGED.format(epoch=int(strength) + 1)))
                continue
            spread = 0.002 + 0.02 * draw.random()
            rows.append(trial(rule, named, accuracy, validation_accuracy_std=spread))
    table = pandas.DataFrame(rows)
    if seeds == 1:
        table[["validation_accuracy_std", "validation_loss_std"]] = numpy.nan
    return table


def params_text(profile: str = "digits", **sweep: Any) -> str:
    """The profile's file with this sweep in it."""
    text = (REPOSITORY / "profiles" / f"{profile}.yaml").read_text()
    document = yaml_text.round_trip().load(text)
    document["sweep"] = {"dataset": "digits", "rules": list(RULES), "space": SPACE, **sweep}
    return yaml_text.dumps(document)


def make_params(folder: Path, **sweep: Any) -> Params:
    """Params as ``config.load`` reads them."""
    path = folder / "params.yaml"
    path.write_text(params_text(**sweep))
    return params_file.load(path)
