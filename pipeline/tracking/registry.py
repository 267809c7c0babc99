"""`gait register`: a profile's best models get versions in MLflow's registry, and an alias."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.params.labels import model_name, spread_text
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.nearest_name import did_you_mean
from pipeline.results import seeds_table
from pipeline.tracking import mlflow_model, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

BEST = "best"
# Aliases that are MLflow's own, or that of the best.
_RESERVED = re.compile(rf"latest|{BEST}|v\d+")
_FACTS = ("gait.profile", "gait.dataset", "gait.architecture", "gait.model", "git.commit")


def register(params: Params, model: str | None = None) -> list[dict[str, Any]]:
    """Registers one model for each data set and architecture that has been evaluated.

    If none is named, that is of run.rules the one of the highest validation accuracy at the end of
    training, mean over the seeds. The test set decides nothing. A result that has a
    version keeps it; the alias goes to it.

    Returns:
        For each: ``name``, ``version``, ``alias``, ``model``, ``validation`` (its accuracy in
        percent), ``result``, ``run`` and ``uri``.

    Raises:
        GaitError: there is no table, it lacks the model, its name can be no alias, or the store
            cannot be used or does not have the models.
    """
    chosen = list(_chosen(params, model))
    opened = store.existing_experiment(params.profile)
    if opened is None:
        raise _not_here(chosen[0])
    client, experiment_id = opened
    with store.explained():
        sources = [_source(client, experiment_id, row) for row in chosen]
        return [
            _registered(client, params, row, *source, alias=model or BEST)
            for row, source in zip(chosen, sources, strict=True)
        ]


def _chosen(params: Params, model: str | None) -> Iterator[dict[str, Any]]:
    if model is not None and _RESERVED.fullmatch(model):
        raise GaitError(
            f"received the model {model!r}, whose name would be its alias; MLflow reserves"
            f" 'latest' and v with a number, and '{BEST}' is that of the best: rename its entry in"
            " rules"
        )
    path = seeds_table.path_of(params)
    groups, decides = ["dataset", "architecture", "model", "result"], "validation_accuracy_final"
    read = seeds_table.read(path, (*groups, decides))
    accuracies = read.groupby(groups, sort=False)[decides]
    table = accuracies.agg(validation_mean="mean", validation_std="std").reset_index()
    for _, rows in table.groupby(["dataset", "architecture"], sort=False):
        if model is None:
            rules = rows[rows.model.isin(params.run.rules)]
            if rules.empty:
                raise GaitError(
                    f"{path} has no model of run.rules ({', '.join(params.run.rules)}): run `gait"
                    f" repro`, or name one of {', '.join(rows.model)}"
                )
            yield rules.loc[rules.validation_mean.idxmax()].to_dict()
        elif model in set(rows.model):
            yield rows[rows.model == model].iloc[0].to_dict()
        else:
            hint = did_you_mean(model, rows.model)
            raise GaitError(f"unknown model {model!r}{hint}; {path} has {', '.join(rows.model)}")


def _source(client: MlflowClient, experiment_id: str, row: Mapping[str, Any]) -> tuple[Any, str]:
    """The run that made the model, and the id under which the store has it."""
    runs = store.find_runs(client, experiment_id, row["result"])
    found = mlflow_model.of_run(client, experiment_id, runs[0].info.run_id) if runs else None
    if found is None:
        raise _not_here(row)
    return runs[0], str(found.model_id)


def _not_here(row: Mapping[str, Any]) -> GaitError:
    name = f"{row['dataset']} {row['architecture']} {row['model']}"
    return GaitError(
        f"this MLflow store has not the model of {name} that the table shows: train it here, with"
        f" `gait train {name}`, or, after `dvc pull`, make its run with `gait import-runs`"
    )


def _registered(
    client: MlflowClient,
    params: Params,
    row: Mapping[str, Any],
    run: Any,
    model_id: str,
    alias: str,
) -> dict[str, Any]:
    name = f"{params.profile}-{row['dataset']}-{row['architecture']}"
    _make(client, name, params.profile)
    wanted = f"name = '{name}' and tags.`{store.KEY_TAG}` = '{row['result']}'"
    version = next(iter(client.search_model_versions(wanted, max_results=1)), None)
    accuracy = spread_text(row, "validation", 100, 2)
    if version is None:
        with store.named():
            version = client.create_model_version(
                name,
                f"models:/{model_id}",
                run.info.run_id,
                tags={
                    store.KEY_TAG: row["result"],
                    **{fact: run.data.tags[fact] for fact in _FACTS},
                },
                description=f"{model_name(params, row['model'])} on {row['dataset']},"
                f" {row['architecture']}: validation accuracy {accuracy} %. The run that made it"
                " has its settings, and `gait reproduce` with that run's id makes it again.",
                model_id=model_id,
            )
    client.set_registered_model_alias(name, alias, str(version.version))
    return {
        "name": name,
        "version": int(version.version),
        "alias": alias,
        "model": row["model"],
        "validation": accuracy,
        "result": row["result"],
        "run": run.info.run_id,
        "uri": f"models:/{name}@{alias}",
    }


def _make(client: MlflowClient, name: str, profile: str) -> None:
    from mlflow.exceptions import MlflowException

    if client.search_registered_models(f"name = '{name}'", max_results=1):
        return
    text = (
        f"Models of the profile `{profile}`, registered by `gait register`: the alias `{BEST}` is"
        " on that of the highest validation accuracy."
    )
    try:
        client.create_registered_model(name, tags={"gait.profile": profile}, description=text)
    except MlflowException:
        # Another process may have been faster.
        if not client.search_registered_models(f"name = '{name}'", max_results=1):
            raise
