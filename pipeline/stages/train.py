"""Train stage: one model, all its seeds side by side, tracked from the first epoch to the last."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gaitprop import DivergenceError, InvertibleNetwork, SingularLayerError
from gaitprop.training import (
    TrainingData,
    TrainingSettings,
    make_optimizer,
    steps_per_epoch,
    train,
)
from pipeline import checkpoint, data, history
from pipeline.config import Params
from pipeline.errors import GaitError
from pipeline.progress import TrainingProgress
from pipeline.project import ModelKey, data_file, source
from pipeline.tracking import KEY_TAG, ModelRuns, provenance_tags


def run(params: Params, key: ModelKey) -> Path:
    """Trains the model and writes its folder: network, history, config.

    Raises:
        GaitError: the data is missing or too small for a batch, the tracking store cannot be
            used, or training diverged; the model's folder is then as it was before.
    """
    images = data.load(data_file(params.profile, key.dataset))
    settings = training_settings(params, key)
    split = data.training_and_validation(
        images, params.data.validation_fraction, params.data.split_seed
    )
    if settings.batch_size > len(split.images):
        raise GaitError(
            f"params.yaml, training.batch_size: received {settings.batch_size}; allowed: at most"
            f" {len(split.images)}, the training images of {key.dataset}"
        )
    config = described(params, key, images)
    with _threads(params.training.threads):
        device = choose_device(params.training.device)
        network = build_network(params, key, images, device)
        training_data = TrainingData(
            images=split.images.to(device, network.dtype),
            labels=split.labels.to(device),
            validation_images=split.val_images.to(device, network.dtype),
            validation_labels=split.val_labels.to(device),
            n_classes=images.classes,
        )
        return _train_tracked(key, config, network, training_data, settings)


def training_settings(params: Params, key: ModelKey) -> TrainingSettings:
    """The library's settings for one model."""
    rule, training = params.settings_of(key.model), params.training
    return TrainingSettings(
        rule=params.rule_of(key.model),
        learning_rate=rule.learning_rate,
        orthogonality=rule.orthogonality,
        gamma=rule.gamma,
        epochs=training.epochs,
        batch_size=training.batch_size,
        beta1=training.adam.beta1,
        beta2=training.adam.beta2,
        epsilon=training.adam.epsilon,
        probe_size=training.probe_size,
    )


def build_network(
    params: Params, key: ModelKey, images: data.ImageData, device: torch.device
) -> InvertibleNetwork:
    """The untrained network of one model, all its seeds."""
    architecture = params.architectures[key.architecture]
    return InvertibleNetwork(
        architecture.layer_widths(images.train_images.shape[1]),
        activation=architecture.activation,
        negative_slope=architecture.negative_slope,
        orthogonal=architecture.initialisation == "orthogonal",
        seeds=params.training.seeds,
        dtype=getattr(torch, params.training.precision),
        device=device,
    )


def choose_device(wanted: str) -> torch.device:
    """The device that params.yaml names; ``auto`` is a GPU where there is one.

    Raises:
        GaitError: a GPU is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise GaitError(
            "params.yaml, training.device: received cuda, but PyTorch sees no GPU here; allowed:"
            " auto or cpu"
        )
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def described(params: Params, key: ModelKey, images: data.ImageData) -> dict[str, Any]:
    """All that decides the model's figures, for its config.json: parameters and data."""
    return {
        "profile": key.profile,
        "dataset": key.dataset,
        "model": key.model,
        "rule": params.rule_of(key.model),
        "settings": params.settings_of(key.model).model_dump(),
        "architecture": params.architectures[key.architecture].model_dump(),
        "architecture_name": key.architecture,
        "training": params.training.model_dump(),
        "data": {**params.data.model_dump(), "sha256": images.checksum},
    }


def result_checksum(folder: Path) -> str:
    """Identifies a trained model by its files' content: runs and results find each other by it."""
    digest = hashlib.sha256()
    for name in (checkpoint.CONFIG, checkpoint.HISTORY, checkpoint.NETWORK):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _train_tracked(
    key: ModelKey,
    config: dict[str, Any],
    network: InvertibleNetwork,
    training_data: TrainingData,
    settings: TrainingSettings,
) -> Path:
    device = _device_name(network.device)
    tags = {
        "gait.dataset": key.dataset,
        "gait.architecture": key.architecture,
        "gait.model": key.model,
        "threads": str(torch.get_num_threads()),
        **provenance_tags(source(), config["data"]["sha256"], device),
    }
    started = time.monotonic()
    runs = ModelRuns(key.profile, str(key), network.seeds, _flat(config), tags)
    status, outcome = "KILLED", {}
    try:
        with checkpoint.whole_folder(key.folder) as folder:
            _train(key, network, training_data, settings, runs, folder)
            checkpoint.write_json(folder / checkpoint.CONFIG, config)
            outcome = {KEY_TAG: result_checksum(folder)}
            runs.log_folder(folder)
            # matplotlib is slow to import, and only needed once training is done.
            from pipeline import figures

            curves = figures.model_curves(history.read(folder / checkpoint.HISTORY), str(key))
            runs.log_figure(curves, "curves.svg")
        status = "FINISHED"
    except (DivergenceError, SingularLayerError) as error:
        status, outcome = "FAILED", {"gait.failure": str(error)}
        raise GaitError(f"{key}: {error}") from error
    except Exception as error:
        status, outcome = "FAILED", {"gait.failure": f"{type(error).__name__}: {error}"}
        raise
    finally:
        runs.finish(status, outcome, time.monotonic() - started)
    return key.folder


def _train(
    key: ModelKey,
    network: InvertibleNetwork,
    training_data: TrainingData,
    settings: TrainingSettings,
    runs: ModelRuns,
    folder: Path,
) -> None:
    steps = steps_per_epoch(len(training_data.images), settings.batch_size)
    table: list[dict[str, float]] = []
    with TrainingProgress(str(key), settings.epochs, steps) as progress:
        optimizer = make_optimizer(network, settings)
        for record in train(network, optimizer, training_data, settings, on_step=progress.step):
            rows = history.rows(record, network.seeds)
            table += rows
            runs.log_epoch(rows)
            progress.epoch(record.epoch, record.validation.accuracy.mean().item())
    history.write(folder / checkpoint.HISTORY, table)
    checkpoint.save_network(folder / checkpoint.NETWORK, network)


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, as MLflow shows parameters."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
