"""What `gait compare` reads: models of results, a git revision, an experiment or a run.

Of results, settings are those that dvc.lock recorded with them, else those of the models in models/
that they are of; of MLflow runs, their parameters.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.audit.whole_table import whole_table
from pipeline.params.schema import REFERENCE, Convolution
from pipeline.params.search_space import SECTIONS
from pipeline.project.errors import GaitError
from pipeline.project.files import text_of
from pipeline.project.source import git
from pipeline.project.yaml_mapping import mapping, stages_of
from pipeline.results import seeds_table
from pipeline.results.seeds_table import FILE as SEEDS
from pipeline.tracking import store
from pipeline.tracking.model_runs import holds
from pipeline.tracking.run_metrics import KEPT_PREFIX, LEVEL_TAG, all_runs
from pipeline.training.epochs import FINISHED
from pipeline.training.experiment import flat, parameters
from pipeline.training.model_files import read_config

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# What is compared, and what readers call it.
METRICS = {
    "test_accuracy": "test accuracy",
    "test_loss": "test loss",
    "validation_accuracy": "validation accuracy",
    "train_accuracy": "training accuracy",
}
_OF_SEEDS = {
    "validation_accuracy": "validation_accuracy_final",
    "train_accuracy": "train_accuracy_final",
}
# What either MLflow's runs or results know: where it is not known, nothing is said to differ.
KNOWN_TO_SOME = ("profile", "rule", "rule.rule", "data.sha256", "training.threads")
_NAMES = ("profile", "dataset", "architecture", "model", "rule")
_RUN = re.compile(r"[0-9a-f]{32}")
_EXPERIMENT = "mlflow:"
_CURVE = "validation_accuracy"


@dataclass(frozen=True)
class ComparedModel:
    """One trained model.

    Attributes:
        settings: what decided it, under dotted names; those of a rule begin with ``rule.``.
        seeds: of each metric the value of each seed.
        curve: mean validation accuracy over the seeds, by epoch.
    """

    settings: dict[str, Any]
    seeds: dict[str, dict[int, float]]
    curve: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """What one word on the command line names: its models, by data set, architecture and model.

    ``notes`` are sentences on how it was read.
    """

    name: str
    models: dict[str, ComparedModel]
    notes: Sequence[str] = ()


def find_all(words: Sequence[str]) -> list[Compared]:
    """What each word means; runs that are called the same have the beginning of their ids, too."""
    found = [find(word) for word in words]
    counts = Counter(each.name for each in found)
    return [
        replace(each, name=f"{each.name} ({word[:8]})")
        if counts[each.name] > 1 and _RUN.fullmatch(word)
        else each
        for word, each in zip(words, found, strict=True)
    ]


def find(word: str) -> Compared:
    """What a word means: results, a profile, an MLflow run or experiment, or a git revision.

    GaitError if it is none of them, or lacks what is compared.
    """
    for folder in (Path(word), Path("results", word)):
        if (folder / SEEDS).is_file():
            # Not resolved: what is beside results/ is the project's, wherever a link leads.
            return _of_results(word, Path(os.path.abspath(folder)), _text)
    if _RUN.fullmatch(word):
        return _of_run(word)
    if word.startswith(_EXPERIMENT):
        return _of_experiment(word)
    revision, _, inner = word.partition(":")
    commit = _commit(revision)
    if commit is None:
        raise GaitError(
            f"{word!r} is nothing to compare; allowed: a folder with a {SEEDS}, a profile that has"
            " results, the id of an MLflow run, mlflow:EXPERIMENT, a git revision"
            " (REVISION:results/PROFILE for another profile than its params.yaml's), a DVC"
            " experiment"
        )

    def read(path: Path) -> str | None:
        return _git("show", f"{commit}:{path}")

    params = mapping(read(Path("params.yaml")) or "", f"params.yaml of {word}")
    profile = Path(inner).name if inner else params.get("profile")
    return _of_results(word, Path("results", str(profile)), read)


def _of_results(word: str, folder: Path, read: Callable[[Path], str | None]) -> Compared:
    """Of results/<profile>, beside which are dvc.lock and models, or of a copy without either."""
    profile, text = folder.name, read(folder / SEEDS)
    if text is None:
        raise GaitError(f"{word} has no {folder / SEEDS}: `gait evaluate` writes it")
    figures = ("seed", *(_OF_SEEDS.get(metric, metric) for metric in METRICS))
    table = whole_table(text, f"{folder / SEEDS} of {word}", seeds_table.COLUMNS, figures)
    curves = read(folder / "curves.csv")
    of_epochs = (
        whole_table(curves, f"curves.csv of {word}", ("model", "epoch", _CURVE), ("epoch", _CURVE))
        if curves is not None
        else None
    )
    project = folder.parents[1] if folder.parent.name == "results" else None
    lock = read(project / "dvc.lock") if project is not None else None
    stages = stages_of(lock or "", f"dvc.lock of {word}")
    # `gait train` and `gait evaluate` write no dvc.lock, which then tells of other models.
    made = stages.get(f"evaluate@{profile}", {}).get("outs", ())
    checksum = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    recorded = any(each.get("md5") == checksum for each in made)
    models, doubtful, unknown = {}, [], []
    for (dataset, architecture, model), rows in table.groupby(
        ["dataset", "architecture", "model"], sort=False
    ):
        key = f"{dataset}/{architecture}/{model}"
        place = rows.set_index("seed")
        seeds = {
            metric: {int(seed): float(value) for seed, value in place[column].items()}
            for metric in METRICS
            if (column := _OF_SEEDS.get(metric, metric)) in place
        }
        name = f"{profile}-{dataset}-{architecture}"
        stage = f"reference@{name}" if model == REFERENCE else f"train@{name}-{model}"
        params = stages.get(stage, {}).get("params", {}).get("params.yaml", {})
        settings = {"dataset": dataset, "architecture": architecture, "model": model}
        trained: dict[str, Any] = {}
        if project is not None and not recorded:
            trained = _settings_of(project / "models" / profile / key, rows.result.iloc[0])
        if trained:
            settings |= trained
        elif params:
            settings |= {**_defaults(), **_renamed(params)}
            if not recorded:
                doubtful.append(key)
        else:
            unknown.append(key)
        own = of_epochs[of_epochs.model == key] if of_epochs is not None else None
        curve = dict(zip(own.epoch, own[_CURVE], strict=True)) if own is not None else {}
        models[key] = ComparedModel(settings, seeds, curve)
    notes = []
    if doubtful:
        notes.append(
            f"{word}: dvc.lock records another {SEEDS}; the settings shown of {', '.join(doubtful)}"
            " are dvc.lock's, and may not be theirs"
        )
    if unknown:
        notes.append(f"{word}: nothing beside it records the settings of {', '.join(unknown)}")
    return Compared(word, models, notes)


def _settings_of(model: Path, result: str) -> dict[str, Any]:
    """What its config.json says; nothing where the folder's files are not those of the result."""
    return _renamed(parameters(read_config(model))) if holds(model, result) else {}


def _defaults() -> dict[str, Any]:
    """What settings are that a params.yaml does not name, as MLflow's runs say of all."""
    sections = {name: each.model_construct().model_dump() for name, each in SECTIONS.items()}
    return {k: v for k, v in flat(sections).items() if isinstance(v, int | float | str)}


def _of_run(run_id: str) -> Compared:
    client, run = store.existing_run(run_id)
    if run.data.tags.get(LEVEL_TAG) != "model":
        raise GaitError(f"the run {run_id} is not of a model; allowed: runs of `gait train`")
    with store.explained():
        model = _model_of(client, run)
    status = run.info.status
    if not model.seeds:
        raise GaitError(
            f"the run {run_id} is {status} and has no figures; allowed: runs that have some"
        )
    early = (
        f"the run {run_id} is {status}, not {FINISHED}: its figures are of the last epoch that it"
        " has sent"
    )
    notes = [] if status == FINISHED else [early]
    return Compared(run.data.tags.get("mlflow.runName", run_id), {_key_of(run): model}, notes)


def _of_experiment(word: str) -> Compared:
    """Of an MLflow experiment the newest finished training of each model."""
    opened = store.existing_experiment(word.removeprefix(_EXPERIMENT))
    wanted = f"tags.`{LEVEL_TAG}` = 'model' and attributes.status = '{FINISHED}'"
    models: dict[str, ComparedModel] = {}
    trainings: Counter[str] = Counter()
    if opened is not None:
        client, experiment_id = opened
        with store.explained():
            runs = list(all_runs(client, experiment_id, wanted, ["start_time DESC"]))
            trainings.update(map(_key_of, runs))
            for run in runs:
                if (key := _key_of(run)) not in models:
                    models[key] = _model_of(client, run)
    if not models:
        raise GaitError(
            f"{word} has no finished training in this MLflow store; allowed: mlflow:PROFILE of a"
            " profile that has been trained here"
        )
    several = [
        f"{word}: the newest of {count} trainings of {key}; others by their runs' ids"
        for key, count in trainings.items()
        if count > 1
    ]
    return Compared(word, models, several)


def _key_of(run: Run) -> str:
    return "/".join(run.data.tags[f"gait.{part}"] for part in ("dataset", "architecture", "model"))


def _model_of(client: MlflowClient, run: Run) -> ComparedModel:
    points = client.get_metric_history(run.info.run_id, _CURVE)
    seeds: dict[str, dict[int, float]] = {}
    for child in store.nested_runs(client, run):
        for metric in METRICS:
            if metric in child.data.metrics:
                values = seeds.setdefault(metric, {})
                # Of the weights that are kept, as tables of results have it.
                kept = child.data.metrics.get(f"{KEPT_PREFIX}{metric}", child.data.metrics[metric])
                values[int(child.data.params["seed"])] = kept
    # Seeds are a setting of training, too.
    settings = {name: text for name, text in run.data.params.items() if name != "seeds"}
    curve = {each.step: each.value for each in points}
    return ComparedModel(_renamed(settings), seeds, curve)


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    """Flat, under the names that a sweep knows: ``rule.`` for what a rule's section says."""
    found = {}
    for name, value in flat(settings).items():
        name = re.sub(r"^(rules\.[^.]+|reference|settings)\.", "rule.", name)
        name = re.sub(r"^architectures\.[^.]+\.", "architecture.", name)
        name = re.sub(r"^architecture_name$", "architecture", name)
        # What is a name stays one, whatever it looks like.
        found[name] = value if name in _NAMES else _value(value)
    # Results have those keys that a params.yaml gives, MLflow's runs all.
    if convolutions := found.get("architecture.convolutions"):
        with suppress(TypeError):  # of a text that is no list of mappings
            whole = [{**Convolution.model_construct(**c).model_dump(), **c} for c in convolutions]
            found["architecture.convolutions"] = whole
    return found


def _value(value: Any) -> Any:
    """A text as the number that it is, since YAML 1.1 knows no 1e-08; MLflow's texts as values."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError):
        return value


def _text(path: Path) -> str | None:
    return text_of(path) if path.is_file() else None


def _commit(revision: str) -> str | None:
    """The commit of a revision, or of a DVC experiment by its name."""
    if not revision or revision.startswith("-"):
        return None
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found is not None:
        return found.strip()
    # refs/exps/<two digits>/<the rest of a commit>/<name>
    references = _git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps") or ""
    experiments = [line.split(" ", 1) for line in references.splitlines()]
    commits = [commit for commit, name in experiments if name.split("/", 4)[4:] == [revision]]
    if len(commits) > 1:
        raise GaitError(
            f"{revision} is the name of {len(commits)} DVC experiments; allowed: the commit of one"
            f" of them: {', '.join(each[:12] for each in commits)}"
        )
    return commits[0] if commits else None


def _git(*arguments: str) -> str | None:
    done = git(*arguments)
    return None if done.returncode else done.stdout
