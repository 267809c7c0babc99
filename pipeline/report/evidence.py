"""What the report is made from: trained models' histories, tables, and what else there is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey, results_folder
from pipeline.results import seeds_table, trained
from pipeline.results.provenance import of_model, sha256
from pipeline.results.trial_ranking import FIGURES
from pipeline.training import history, model_files

VERIFICATION = Path("results", "verify", "verify.json")
VERIFY = f"gait verify --json > {VERIFICATION}"


@dataclass(frozen=True)
class Sweep:
    """One sweep's published table."""

    folder: Path  # results/<profile>/sweep/<name>
    trials: pandas.DataFrame  # as ``pipeline.results.trial_ranking`` describes it
    runs: Mapping[str, str]  # MLflow's id of each trial's run, as far as they are known


@dataclass(frozen=True)
class Evidence:
    """Everything that the report shows."""

    params: Params
    seeds: pandas.DataFrame  # test figures, a row a model and seed
    histories: Mapping[ModelKey, pandas.DataFrame]
    models: Mapping[ModelKey, Mapping[str, Any]]  # ``provenance.of_model`` of each
    verification: Mapping[str, Any] | None  # as `gait verify --json` writes it
    sweeps: list[Sweep]  # in the order of their names
    inputs: Mapping[str, str]  # SHA-256 of every table that was read


def gather(params: Params) -> Evidence:
    """Reads everything there is.

    Raises:
        GaitError: a model or its evaluation is missing, or a file is damaged or outdated.
    """
    keys = params.model_keys()
    for key in keys:
        trained.check(params, key)
    table = seeds_table.path_of(params)
    folders = sorted((results_folder(params.profile) / "sweep").glob("*/trials.csv"))
    sweeps = [_sweep(path.parent) for path in folders]
    read = [table, *folders, *(path.with_name("runs.csv") for path in folders)]
    read += [VERIFICATION] if VERIFICATION.is_file() else []
    return Evidence(
        params=params,
        seeds=seeds_table.read_of_models(params, keys),
        histories={key: history.read(key.folder / model_files.HISTORY) for key in keys},
        models={key: of_model(key) for key in keys},
        verification=_verification(),
        sweeps=sweeps,
        inputs={str(path): sha256(path.read_bytes()) for path in read},
    )


def _verification() -> dict[str, Any] | None:
    if not VERIFICATION.is_file():
        return None
    try:
        document = json.loads(VERIFICATION.read_text(encoding="utf-8"))
        names = {"comparisons", "convolutions", "departures", "kink", "rescalings", "settings"}
        known = names == set(document) - {"holds"}
    except (ValueError, TypeError):
        known = False
    if not known:
        raise GaitError(
            f"{VERIFICATION} is not what `{VERIFY}` writes: run that again, or delete it"
        )
    return dict(document)


def _sweep(folder: Path) -> Sweep:
    path = folder / "trials.csv"
    try:
        trials, runs = (
            seeds_table.read_csv(each, ("trial", "rule")) for each in (path, folder / "runs.csv")
        )
        runs = runs.set_index("trial").mlflow_run_id.dropna()
        if missing := {"trial", "rule", *FIGURES} - set(trials.columns):
            raise ValueError(f"no column {', '.join(sorted(missing))}")
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise GaitError(
            f"{path} is not a sweep's table ({error}): run `gait sweep` again, or delete {folder}"
        ) from None
    return Sweep(folder, trials, runs.to_dict())
