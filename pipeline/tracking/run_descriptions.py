"""What MLflow's pages show of experiments and runs: names, descriptions in Markdown, data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.params import params_file, profiles
from pipeline.params.labels import (
    model_names,
    model_of_rule_name,
    regularizer_text,
    setting_name,
    spread_text,
    value_text,
)
from pipeline.params.looks import look_among
from pipeline.params.schema import REFERENCE, WITHOUT_GAMMA, Params, RuleSettings
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey, data_file
from pipeline.tracking import run_view
from pipeline.training.epochs import FINISHED, KEPT, kept
from pipeline.training.experiment import described, parameters
from pipeline.training.training_record import Training

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

NOTE_TAG, KIND_TAG = "mlflow.note.content", "mlflow.experimentKind"
COLOUR_TAG = "mlflow.runColor"
_LISTED = 20
# MLflow takes no longer digest of a data set.
_DIGEST = 36
_SETTINGS = {
    "learning rate": "rule.learning_rate",
    "λ": "rule.orthogonality",
    "γ": "rule.gamma",
    "epochs": "training.epochs",
    "batch size": "training.batch_size",
    "seeds": "training.seeds",
}
_IN_NAME = (
    *("profile", "architecture_name", "model", "rule"),
    *("rule.orthogonality", "rule.penalty", "rule.constraint"),
)
_FIRST_PROFILE = "digits"
# So many settings that differ are in a run's name; of a profile without a file more, since there
# are those that all of its runs have.
_NAMED, _NAMED_MORE = 3, 10


def describe_experiment(client: MlflowClient, experiment_id: str, text: str, view: str) -> None:
    """Gives the experiment description and view, unless it has them: somebody may have edited it.

    For the view, how its runs are listed, see ``pipeline.tracking.run_view``.
    """
    tags = client.get_experiment(experiment_id).tags
    # Else the pages are those of applications of language models, until somebody says otherwise.
    kind = "custom_model_development"
    for name, value in ((NOTE_TAG, text), (KIND_TAG, kind), (run_view.TAG, view)):
        if name not in tags:
            client.set_experiment_tag(experiment_id, name, value)


def of_profile(profile: str) -> str:
    """The experiment of a profile's trainings."""
    return f"""Models of the profile `{profile}`, trained by `gait train` and `gait repro`.

Each training is a run with the means over its seeds, and nested in it one run a seed.
`tags.gait.level = 'model'` shows the former alone; `tags.gait.model`, `tags.gait.dataset` and
`tags.gait.architecture` choose among them. Test figures come from `gait evaluate`; the tables are
`results/{profile}/summary.md` and `.csv`. `gait reproduce RUN` trains a run again and compares
every bit.
"""


def of_sweeps(profile: str) -> str:
    """The experiment of a profile's sweeps."""
    return f"""Sweeps of the profile `{profile}`, made by `gait sweep`.

Each sweep is a run, and nested in it one run a trial, with the means over the trial's seeds.
`tags.gait.level = 'trial'` shows the trials; `tags.gait.sweep`, `params.rule`,
`params.rule.learning_rate` and `params.rule.orthogonality` choose among them. The tables are in
`results/{profile}/sweep/`; `gait sweep best` shows each rule's winner.
"""


def _tried(values: Any) -> str:
    """Values or a range; of many values the first and the last."""
    if isinstance(values, list) and len(values) > _LISTED:
        first = ", ".join(map(str, values[:_LISTED]))
        return f"[{first}, … {values[-1]}], {len(values)} values"
    return str(values if isinstance(values, list) else values.model_dump(exclude_none=True))


def of_sweep(params: Params) -> str:
    """A sweep's run: what is tried, and where the results are."""
    sweep = params.sweep
    space = "\n".join(
        f"| {setting_name(place)} | {_tried(values)} |" for place, values in sweep.space.items()
    )
    rules = ", ".join(model_names(params, sweep.rules).values())
    return f"""**{sweep.name}**: {sweep.search}, {rules} on {sweep.dataset} {sweep.architecture}.

| setting | tried |
|---|---|
{space}

The nested runs are the trials; results are this run's artifacts, and in
`results/{params.profile}/sweep/{sweep.name}`. Made by `gait sweep`.
"""


def run_name(training: Training) -> str:
    """Model, data, λ, and what differs from the profile's own file: what tells runs apart."""
    settings, tags = training.parameters, training.tags
    model = model_of_rule_name(str(settings["rule"]), tags["gait.model"])
    strength = regularizer_text(
        settings["rule.orthogonality"],
        settings["rule.penalty"],
        settings["rule.constraint"],
        "λ ",
    )
    parts = [model, f"{tags['gait.dataset']} {tags['gait.architecture']}", strength]
    return ", ".join([*parts, *_differences(training)])


def colour_of(model: str) -> str:
    """A model's or rule's colour in every figure; MLflow's own take turns, and come out alike."""
    return look_among([model], model).colour


def _differences(training: Training) -> list[str]:
    """Settings that are not as in profiles/, the first few of them."""
    tags = training.tags
    key = ModelKey(
        *(tags[f"gait.{part}"] for part in ("profile", "dataset", "architecture", "model"))
    )
    # One of one's own, without a file, differs from what every project begins with.
    known = key.profile in profiles.names()
    name, most = (key.profile, _NAMED) if known else (_FIRST_PROFILE, _NAMED_MORE)
    try:
        profile = params_file.load(profiles.path_of(name))
    except GaitError:
        return []  # No such profile: there is nothing to differ from.
    model = key.model if key.model in (REFERENCE, *profile.rules) else REFERENCE
    known_ones = profile.architectures
    architecture = key.architecture if key.architecture in known_ones else next(iter(known_ones))
    nearest = replace(key, model=model, architecture=architecture)
    usual = parameters(described(profile, nearest, tags["data.sha256"]))
    if model != key.model:
        # Of a model that the file has not, all that is its own differs.
        usual = {name: value for name, value in usual.items() if not name.startswith("rule.")}
        usual |= {f"rule.{each}": f.default for each, f in RuleSettings.model_fields.items()}
    named = [
        f"{_in_full(name)} {value_text(value)}"
        for name, value in training.parameters.items()
        # What the file does not give is there only if it is given.
        if usual.get(name) != value and name not in _IN_NAME and not name.startswith("plugin.")
    ]
    return [*named[:most], *(["…"] if len(named) > most else [])]


def _in_full(name: str) -> str:
    """A setting's name; one of a section within a section with that: ``schedule kind``."""
    *outer, last = name.split(".")
    return f"{outer[-1]} {last}" if len(outer) > 1 else setting_name(name)


def of_training(training: Training) -> str:
    """A training's run: what it is, its settings, what came of it, and how it is made again."""
    tags = training.tags
    profile = tags["gait.profile"]
    values = {title: value_text(training.parameters[name]) for title, name in _SETTINGS.items()}
    if training.parameters["rule.constraint"] != "none":
        values["λ"] = f"– ({training.parameters['rule.constraint']} W)"
    if training.parameters["rule"] in WITHOUT_GAMMA:
        values["γ"] = "–"
    rows = "\n".join(f"| {title} | {value} |" for title, value in values.items())
    return f"""**{run_name(training)}**: {len(training.seeds)} networks, trained side by side.

| setting | |
|---|---|
{rows}

{_result(training)}

Tables with every model of the profile: `results/{profile}/summary.md`. Made by
`gait train {training.name.replace("/", " ")}`; `gait reproduce` with this run's id trains it again
and compares every bit.
"""


def chart_name(name: str) -> str:
    """A figure's name in MLflow, whose charts are in sections by what is before a slash.

    What is measured layer by layer gets sections of its own, which can be folded away.
    """
    quantity, separator, layer = name.rpartition("_layer_")
    return f"{quantity}/layer_{layer}" if separator else name


def data_of(training: Training) -> DatasetInput:
    """The image set, as MLflow's column of data sets shows it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name, checksum = training.tags["gait.dataset"], training.tags["data.sha256"]
    source = json.dumps({"path": str(data_file(training.tags["gait.profile"], name))})
    images = Dataset(name, checksum[:_DIGEST], source_type="local", source=source)
    return DatasetInput(images, [InputTag("mlflow.data.context", "training")])


def _result(training: Training) -> str:
    if training.status != FINISHED:
        return "Not finished."
    last, name = kept(training.epochs), "validation_accuracy"
    row = {f"{name}_mean": last.mean(name), f"{name}_std": last.spread(name)}
    early = KEPT in training.epochs[-1].rows[0]
    when = f"of each seed's best epoch of {last.epoch}" if early else f"after epoch {last.epoch}"
    return (
        f"Validation accuracy {when}: {spread_text(row, name, 100, 2)} %"
        f" (n = {len(last.rows)} seeds). `gait evaluate` adds the test figures as metrics."
    )
