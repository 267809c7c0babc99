"""One experiment as params.yaml describes it: network, data and settings of one model.

The train stage and the trials of a sweep build theirs here, so that equal parameters give equal
figures, whichever of them trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from gaitprop import ArgumentError, InvertibleNetwork, Rule, numerics
from gaitprop.rules import find_rule, hyperparameters_of
from gaitprop.training import TrainingData, TrainingSettings
from pipeline.data import image_tensors
from pipeline.data.image_sets import image_set
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey
from pipeline.training.plugin_source import plugin_of

NO_MEMORY = "there is not enough memory: narrower layers, fewer seeds or smaller batches need less"


class Experiment(NamedTuple):
    """An untrained network of S seeds, and what it is to be trained on and how."""

    network: InvertibleNetwork
    data: TrainingData
    settings: TrainingSettings


def prepare(params: Params, key: ModelKey, images: image_tensors.ImageData) -> Experiment:
    """Everything that ``gaitprop.training.train`` needs, on the device that params.yaml names.

    Raises GaitError as ``check``, and if the device is not there, or memory for the network.
    """
    check(params, key, images)
    settings = training_settings(params, key)
    split = image_tensors.training_and_validation(
        images, params.data.validation_fraction, params.data.split_seed, params.data.train_size
    )
    device = choose_device(params.training.device)
    try:
        network = _untrained(params, key, device)
        training_data = TrainingData(
            images=image_tensors.for_network(split.images, device, network.dtype),
            labels=split.labels.to(device),
            validation_images=image_tensors.for_network(split.val_images, device, network.dtype),
            validation_labels=split.val_labels.to(device),
            n_classes=images.classes,
            # Floats are divided by nothing.
            maximum=images.maximum or 1,
        )
    except (MemoryError, RuntimeError) as error:
        if lacks_memory(error):
            raise GaitError(f"{key}: {NO_MEMORY}") from error
        raise
    return Experiment(network, training_data, settings)


def check(params: Params, key: ModelKey, images: image_tensors.ImageData) -> None:
    """Looks whether the model can be trained on the images, before anything is made from them.

    GaitError if they are too few for the split or for a batch, or the weights that should stay
    orthogonal are not so at the start.
    """
    count = image_tensors.training_count(
        images, params.data.validation_fraction, params.data.train_size
    )
    if params.training.batch_size > count:
        raise GaitError(
            f"params.yaml, training.batch_size: received {params.training.batch_size}; allowed: at"
            f" most {count}, the training images of {key.dataset}"
        )
    start = params.architectures[key.architecture].initialisation
    if params.settings_of(key.model).constraint == "orthogonal" and start != "orthogonal":
        raise GaitError(
            f"params.yaml, constraint of {key.model}: received orthogonal, and architectures."
            f"{key.architecture} has initialisation {start}; allowed: orthogonal"
        )


def training_settings(params: Params, key: ModelKey) -> TrainingSettings:
    """The library's settings for one model."""
    rule, training = params.settings_of(key.model), params.training
    return TrainingSettings(
        rule=_rule(params, key),
        learning_rate=rule.learning_rate,
        orthogonality=rule.orthogonality,
        orthogonality_interval=training.orthogonality_interval,
        gamma=rule.gamma,
        epochs=training.epochs,
        batch_size=training.batch_size,
        beta1=training.adam.beta1,
        beta2=training.adam.beta2,
        epsilon=training.adam.epsilon,
        probe_size=training.probe_size,
        diagnostics_interval=training.diagnostics_interval,
        loss=training.loss,
        output_gain=1.0 if rule.output_gain is None else rule.output_gain,
        penalty=rule.penalty,
        constraint=rule.constraint,
        optimizer=training.optimizer,
        momentum=training.momentum,
        schedule=training.schedule.kind,
        schedule_interval=training.schedule.interval,
        schedule_factor=training.schedule.factor,
        patience=training.patience,
        weight_decay=training.weight_decay if rule.weight_decay is None else rule.weight_decay,
        feedback_learning_rate=rule.feedback_learning_rate,
    )


def lacks_memory(error: BaseException) -> bool:
    """Whether it says that memory ends; of a CPU's PyTorch says so in words alone."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def choose_device(wanted: str) -> torch.device:
    """The device that params.yaml names; GaitError if that is a GPU, and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise GaitError(
            "params.yaml, training.device: received cuda, but PyTorch sees no GPU here; allowed:"
            " auto or cpu"
        )
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def device_name(device: torch.device) -> str:
    """The GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def described(params: Params, key: ModelKey, images: str) -> dict[str, Any]:
    """All that decides the model's figures, for its config.json: parameters, data, and more.

    ``plugin``, the rule's own package, is there only if the rule is not built in; the number of
    threads only if it may decide a bit. ``images`` is their file's checksum.
    """
    plugin = plugin_of(params.rule_of(key.model))
    portable = params.training.numerics == "portable"
    return {
        **({"plugin": plugin} if plugin is not None else {}),
        "profile": key.profile,
        "dataset": key.dataset,
        "model": key.model,
        "rule": params.rule_of(key.model),
        "settings": params.settings_of(key.model).model_dump(exclude={"rule"}, exclude_none=True),
        "architecture": params.architectures[key.architecture].model_dump(),
        "architecture_name": key.architecture,
        "training": params.training.model_dump(exclude={"threads"} if portable else None),
        "data": {**params.data.model_dump(), "sha256": images},
    }


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, as MLflow shows parameters."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``described`` gives as MLflow has it: under the dotted names that a sweep knows, too."""
    own = {f"rule.{name}": value for name, value in config["settings"].items()}
    return {**flat({k: v for k, v in config.items() if k != "settings"}), **own}


def choose_numerics(params: Params) -> None:
    """Has this process compute as params.yaml says; GaitError if it has done otherwise already."""
    try:
        numerics.use(params.training.numerics, params.training.threads)
    except ArgumentError as error:
        raise GaitError(f"params.yaml, training.numerics: {error}") from None


def _rule(params: Params, key: ModelKey) -> str | Rule:
    """A name, or the rule of the values that its hyperparameters have."""
    rule, settings = params.rule_of(key.model), params.settings_of(key.model)
    own = {name: getattr(settings, name) for name in hyperparameters_of(rule)}
    return find_rule(rule, own) if own else rule


def _untrained(params: Params, key: ModelKey, device: torch.device) -> InvertibleNetwork:
    architecture = params.architectures[key.architecture]
    return InvertibleNetwork(
        architecture.on(image_set(key.dataset)),
        activation=architecture.activation,
        negative_slope=architecture.negative_slope,
        orthogonal=architecture.initialisation == "orthogonal",
        seeds=params.training.seeds,
        dtype=getattr(torch, params.training.precision),
        device=device,
    )
