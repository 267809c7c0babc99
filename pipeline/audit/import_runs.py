"""MLflow runs of models that were trained elsewhere, from what the models' own folders record.

A clone that has pulled models has no run of them. Histories, settings and results are theirs; when
and on what machine they were trained is not known, and not claimed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Set
from pathlib import Path

from pipeline.audit.provenance_chain import commit_of
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey
from pipeline.results import trained
from pipeline.tracking import store
from pipeline.tracking.model_runs import ModelRuns
from pipeline.training import history, model_files, plugin_source
from pipeline.training.epochs import FINISHED, Epoch
from pipeline.training.experiment import parameters
from pipeline.training.model_files import result_checksum
from pipeline.training.training_record import Training


def run(params: Params) -> dict[str, str]:
    """Makes the runs of the profile's models that this store lacks.

    Returns what was done by model: ``imported``, ``known``, or ``missing`` where there is none.

    Raises:
        GaitError: there is no model at all, one is damaged or of other settings than params.yaml's,
            or the store cannot be used.
    """
    keys = params.model_keys()
    there = [key for key in keys if (key.folder / model_files.CONFIG).is_file()]
    if not there:
        raise GaitError(
            f"there is no trained model of {params.profile}: run `dvc pull`, of what `dvc push`"
            " has sent with that profile in params.yaml"
        )
    for key in there:
        trained.check(params, key)
    client, experiment_id = store.open_experiment(params.profile)
    commit = commit_of(Path("dvc.lock"))
    recorded = _as_recorded({key.folder for key in there}) if commit is not None else set()
    done = {str(key): "missing" for key in keys}
    for key in there:
        record = _record(key, commit if key.folder in recorded else None)
        with store.explained():
            known = store.find_runs(client, experiment_id, record.outcome[store.KEY_TAG])
            if not known:
                ModelRuns(client, experiment_id).send(record)
        done[str(key)] = "known" if known else "imported"
    return done


def _as_recorded(folders: Set[Path]) -> set[Path]:
    """Of folders that stages make, those that are as dvc.lock has them."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            outs = {Path(str(out)): out for stage in repo.index.stages for out in stage.outs}
            made = folders & outs.keys()
            return {folder for folder in made if not outs[folder].workspace_status()}
    except (DvcException, OSError, sqlite3.Error):
        # A copy without DVC's own folder; a damaged file of its own, or one that it may not write.
        return set()


def _record(key: ModelKey, commit: str | None) -> Training:
    config = model_files.read_config(key.folder)
    result, now = result_checksum(key.folder), int(time.time() * 1000)
    epochs = []
    for number, of_epoch in history.read(key.folder / model_files.HISTORY).groupby("epoch"):
        # Left out is what the epoch did not have; what one seed has no number for is NaN.
        rows = of_epoch.dropna(axis="columns", how="all").to_dict("records")
        epochs.append(Epoch(int(number), now, rows))
    tags = {
        "gait.imported": "true",
        "gait.profile": key.profile,
        "gait.dataset": key.dataset,
        "gait.architecture": key.architecture,
        "gait.model": key.model,
        "data.sha256": config["data"]["sha256"],
        **plugin_source.tags_of(config["rule"]),
        # The commit whose dvc.lock has this very model, as `dvc repro` and git left it.
        "git.commit": commit or "none",
        "git.clean": str(commit is not None).lower(),
    }
    return Training(
        # The same again, should this be interrupted.
        id=result[:32],
        experiment=key.profile,
        name=str(key),
        folder=str(key.folder),
        seeds=config["training"]["seeds"],
        parameters=parameters(config),
        tags=tags,
        started_ms=now,
        epochs=epochs,
        status=FINISHED,
        ended_ms=now,
        outcome={store.KEY_TAG: result},
    )
