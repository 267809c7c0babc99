"""best.yaml: the best trial of each rule of a sweep, for people and for `gait sweep best`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas
from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.params.schema import Params
from pipeline.params.section import Section
from pipeline.project.errors import GaitError
from pipeline.project.files import text_of
from pipeline.results.trial_ranking import best_trial, plain, swept_settings
from pipeline.sweep import yaml_text

FILE = "best.yaml"

_HEAD = """\
# The best trial of each rule of a sweep, by its mean accuracy on the validation set; the test set
# was not touched. null: no trial of that rule finished. summary.md says more.
# `gait sweep best` shows this as a table, `gait sweep best --apply` writes it into params.yaml.
"""


class MeanAndSpread(Section):
    """A trial's mean and sample standard deviation over its seeds; null for one seed."""

    mean: float
    std: float | None


class Winner(Section):
    """The best finished trial of a rule."""

    trial: str
    values: dict[str, Any] = Field(min_length=1, description="what was swept, by dotted name")
    seeds: int = Field(ge=1, description="how many the figures are over")
    epochs: int = Field(ge=1, description="trained")
    validation_accuracy: MeanAndSpread = Field(description="fractions of 1")
    validation_loss: MeanAndSpread
    mlflow_run_id: str | None = None


class Winners(Section):
    """The whole of best.yaml."""

    sweep: str
    profile: str
    dataset: str
    architecture: str
    fixed: dict[str, Any] = Field(description="where the trials differed from params.yaml")
    missing: int = Field(0, ge=0, description="trials that have not ended")
    best_rule: str | None = Field(description="whose winner is the best of all")
    rules: dict[str, Winner | None]


def of_trials(
    params: Params, trials: pandas.DataFrame, run_ids: Mapping[str, str], missing: int
) -> Winners:
    """The winners of a table in the order of trials.csv, which so many trials are missing from."""
    sweep, best = params.sweep, best_trial(trials)
    return Winners(
        sweep=sweep.name,
        profile=params.profile,
        dataset=sweep.dataset,
        architecture=sweep.architecture,
        fixed=dict(sweep.fixed),
        missing=missing,
        best_rule=None if best is None else best["rule"],
        rules={rule: _winner(params, trials[trials.rule == rule], run_ids) for rule in sweep.rules},
    )


def setting(params: Params, values: Mapping[str, Any], name: str) -> Any:
    """A trial's setting by its dotted name: swept, or fixed for the sweep, or of params.yaml."""
    own = attrgetter(name)(params)
    return {name: own, **params.sweep.fixed, **values}[name]


def as_text(winners: Winners) -> str:
    """The file's content."""
    return _HEAD + yaml_text.dumps(winners.model_dump())


def read(folder: Path) -> Winners:
    """The winners of the sweep whose results are in the folder.

    Raises:
        GaitError: there is no best.yaml, or it is not as a sweep writes it.
    """
    path = folder / FILE
    if not path.exists():
        raise GaitError(
            f"{path} is missing: run `gait sweep`, which writes it when the last trial has ended"
        )
    text = text_of(path)
    try:
        return Winners.model_validate(YAML(typ="safe").load(text))
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the file as a whole'}: {first['msg']}"
    except (YAMLError, ValueError) as error:  # Or a date, or a number, that cannot be.
        reason = str(error).splitlines()[0]
    raise GaitError(
        f"{path} is not as `gait sweep` writes it ({reason}); `gait sweep --resume` writes it anew"
    )


def _winner(params: Params, trials: pandas.DataFrame, run_ids: Mapping[str, str]) -> Winner | None:
    row = best_trial(trials)
    if row is None:
        return None
    values = {name: plain(row[name]) for name in swept_settings(trials)}
    return Winner(
        trial=row["trial"],
        values=values,
        seeds=len(setting(params, values, "training.seeds")),
        epochs=int(row["epochs"]),
        validation_accuracy=_figure(row, "validation_accuracy"),
        validation_loss=_figure(row, "validation_loss"),
        mlflow_run_id=run_ids.get(row["trial"]),
    )


def _figure(row: Mapping[str, Any], quantity: str) -> MeanAndSpread:
    mean, std = float(row[f"{quantity}_mean"]), float(row[f"{quantity}_std"])
    return MeanAndSpread(mean=mean, std=None if math.isnan(std) else std)
