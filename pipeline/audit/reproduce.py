"""`gait reproduce`: a recorded training, or a published table, made again and compared."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from gaitprop import numerics
from pipeline.audit import reproduce_differences
from pipeline.audit.reproduce_differences import Difference
from pipeline.audit.reproduce_training import key_of, remade
from pipeline.audit.whole_table import whole_table
from pipeline.data import image_tensors
from pipeline.data.image_sets import image_set
from pipeline.params import params_file, profiles
from pipeline.params.schema import REFERENCE, Params
from pipeline.project.errors import GaitError
from pipeline.project.files import text_of
from pipeline.project.paths import ModelKey, data_file
from pipeline.project.source import source
from pipeline.results import seeds_table
from pipeline.results.evaluation import evaluate_model
from pipeline.tracking import store
from pipeline.tracking.run_metrics import LEVEL_TAG
from pipeline.training import model_files, plugin_source
from pipeline.training.experiment import choose_device, choose_numerics, described, device_name
from pipeline.training.identity import CODE_TAG, machine, training_code_checksum
from pipeline.training.image_download import download_images
from pipeline.training.model_files import result_checksum

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What else may be said of a result; these tell where and with what it was made.
_FACTS = ("platform", "device", "numerics", "threads", "cpu", "host", plugin_source.CHECKSUM_TAG)


@dataclass(frozen=True)
class Outcome:
    """What came of making a model again: no differences if every bit is the same.

    ``facts`` are those of versions and machines that differ, recorded and present; ``recorded``
    tells whether any are recorded.
    """

    name: str
    differences: list[Difference]
    facts: dict[str, tuple[str, str]] = field(default_factory=dict)
    recorded: bool = True


def of_run(run_id: str) -> Outcome:
    """Trains again what an MLflow run recorded.

    GaitError if there is no such run of a model, or what it was made from is not at hand.
    """
    with _recorded(run_id) as (recorded, document, tags):
        commit = _commit(document["rule"], tags)
        # What is told of this machine is of the numerics that train here.
        training = document["training"]
        threads = training.get("threads") or tags.get("threads")
        numerics.use(training.get("numerics", "fast"), int(threads) if threads else None)
        with remade(document, commit, tags.get("threads")) as project:
            again = project / key_of(document).folder
            same = result_checksum(again) == result_checksum(recorded)
            found = [] if same else reproduce_differences.of_models(recorded, again)
    return Outcome(str(key_of(document)), found, _facts(tags, document))


def of_table(folder: Path, model: str | None) -> Iterator[Outcome]:
    """Trains models of results/<profile> again, with the working tree's code and parameters.

    The one of this name, a ModelKey's; None: all, each with its outcome as soon as it is known.
    GaitError if there is no such table or model, or the models cannot be trained.
    """
    params, chosen = _chosen(folder, model)
    return (_of_rows(params, key, rows) for key, rows in chosen)


def plan_of_run(run_id: str) -> str:
    """What ``of_run`` would train, and with whose code; raises as it does."""
    with _recorded(run_id) as (_, document, tags):
        commit = _commit(document["rule"], tags)
    code = "this tree's code" if commit is None else f"the code of commit {commit}"
    return f"{key_of(document)}: would be trained with {code}"


def models_of_table(folder: Path, model: str | None) -> list[str]:
    """The names of those that ``of_table`` would train; raises as it does."""
    return [str(key) for key, _ in _chosen(folder, model)[1]]


def _chosen(
    folder: Path, model: str | None
) -> tuple[Params, list[tuple[ModelKey, pandas.DataFrame]]]:
    if not folder.name or not (folder / seeds_table.FILE).is_file():
        raise GaitError(
            f"{folder / seeds_table.FILE} is no published table: name a folder such as"
            " results/digits"
        )
    path = folder / seeds_table.FILE
    table = whole_table(text_of(path), str(path), seeds_table.COLUMNS)
    settings = profiles.file_of(folder.name)
    params = params_file.load(settings)
    models = []
    for _, rows in table.groupby("result", sort=False):
        first = rows.iloc[0]
        key = ModelKey(params.profile, first.dataset, first.architecture, first.model)
        models.append((key, rows.reset_index(drop=True)))
    chosen = [(key, rows) for key, rows in models if model in (None, str(key))]
    if not chosen:
        names = ", ".join(str(key) for key, _ in models)
        raise GaitError(f"--model: received {model!r}; allowed by {path}: {names}")
    for key, _ in chosen:
        image_set(key.dataset)
        for what, received, allowed in (
            ("architecture", key.architecture, [*params.architectures]),
            ("model", key.model, [REFERENCE, *params.rules]),
        ):
            if received not in allowed:
                raise GaitError(
                    f"{path}, {what}: received {received!r}; allowed by"
                    f" {settings}: {', '.join(allowed)}"
                )
    return params, chosen


def _of_rows(params: Params, key: ModelKey, rows: pandas.DataFrame) -> Outcome:
    # Before anything computes here, which settles by what PyTorch computes.
    choose_numerics(params)
    result = str(rows.result[0])
    if not data_file(key.profile, key.dataset).exists():
        download_images(params, key.dataset, progress=False)
    images = image_tensors.load(data_file(key.profile, key.dataset))
    config = described(params, key, images.checksum)
    run = store.known_run(params.profile, result)
    tags = run.data.tags if run is not None else {}
    threads = params.training.threads
    with remade(config, None, None if threads is None else str(threads)) as project:
        same = result_checksum(project / key.folder) == result
        with contextlib.chdir(project):
            again = evaluate_model(params, key)
    found = reproduce_differences.of_tables(rows, again, ["seed"])
    if not found and not same:
        # The table is the same; what it was made from is not.
        found = [Difference("the model's files", "")]
    return Outcome(str(key), found, _facts(tags, config), recorded=bool(tags))


@contextlib.contextmanager
def _recorded(run_id: str) -> Iterator[tuple[Path, dict[str, Any], dict[str, str]]]:
    """The artifacts of a run's model, what its config.json says, and its tags."""
    client, run = _find(run_id)
    with tempfile.TemporaryDirectory(prefix="gait-recorded-") as name:
        folder = Path(name)
        with store.explained():
            there = {each.path for each in client.list_artifacts(run.info.run_id)}
            for file in (model_files.CONFIG, model_files.HISTORY, model_files.NETWORK):
                if file not in there:
                    raise GaitError(
                        f"the run {run.info.run_id} has no {file}: nothing can be compared with it"
                    )
                client.download_artifacts(run.info.run_id, file, name)
        tags = run.data.tags
        if tags.get(store.KEY_TAG, "") != result_checksum(folder):
            raise GaitError(
                f"the artifacts of the run {run.info.run_id} are not those that it recorded:"
                " nothing can be compared with them"
            )
        document = model_files.read_config(folder)
        plugin = document.get("plugin")
        version = tags.get(f"version.{plugin['distribution']}") if plugin is not None else None
        plugin_source.check(document["rule"], plugin, version)
        yield folder, document, tags


def _find(run_id: str) -> tuple[MlflowClient, Any]:
    client, run = store.existing_run(run_id)
    level = run.data.tags.get(LEVEL_TAG)
    if level == "seed":
        return _find(run.data.tags["mlflow.parentRunId"])
    if level != "model":
        raise GaitError(
            f"the run {run_id} is of a {level or 'stranger'}; allowed: runs of models, which `gait"
            " train` records"
        )
    if run.info.status != "FINISHED":
        raise GaitError(f"the run {run_id} is {run.info.status}; allowed: runs that are FINISHED")
    return client, run


def _commit(rule: str, tags: Mapping[str, str]) -> str | None:
    """Whose code is to train: None for the working tree's, where it is the recorded code."""
    if tags.get(CODE_TAG) == training_code_checksum(rule):
        return None
    # Parameters are recorded themselves: a params.yaml that had been edited is no matter.
    clean = "true" in (tags.get("git.code_clean"), tags.get("git.clean"))
    commit, here = tags.get("git.commit", "none"), source()
    if clean and commit == here.commit and here.code_clean:
        return None
    if not clean or commit == "none":
        raise GaitError(
            f"the run was trained by code that is not this tree's and that git does not know"
            f" (commit {commit}, {'clean' if clean else 'with changes'}): it cannot be remade"
        )
    return commit


def _facts(tags: Mapping[str, str], document: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Versions, machine and device that are not what was recorded; what was not is left out."""
    device = device_name(choose_device(document["training"]["device"]))
    here = store.provenance_tags(source(), "", device) | machine()
    here |= plugin_source.tags_of(document["rule"])
    return {
        name: (tags[name], now)
        for name, now in sorted(here.items())
        if (name in _FACTS or name.startswith("version.")) and tags.get(name, now) != now
    }
