"""Train stage: one model, all its seeds side by side, tracked from the first epoch to the last."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gaitprop import DivergenceError, SingularLayerError
from gaitprop.diagnostics import close_to_singular
from gaitprop.training import EpochRecord, make_optimizer, steps_per_epoch, train
from pipeline import checkpoint, data, history
from pipeline.config import Params
from pipeline.errors import GaitError
from pipeline.experiment import Experiment, described, device_name, flat, prepare, threads
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
    with threads(params.training.threads):
        experiment = prepare(params, key, images)
        return _train_tracked(key, described(params, key, images), experiment)


def result_checksum(folder: Path) -> str:
    """Identifies a trained model by its files' content: runs and results find each other by it."""
    digest = hashlib.sha256()
    for name in (checkpoint.CONFIG, checkpoint.HISTORY, checkpoint.NETWORK):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _train_tracked(key: ModelKey, config: dict[str, Any], experiment: Experiment) -> Path:
    network = experiment.network
    tags = {
        "gait.dataset": key.dataset,
        "gait.architecture": key.architecture,
        "gait.model": key.model,
        "threads": str(torch.get_num_threads()),
        **provenance_tags(source(), config["data"]["sha256"], device_name(network.device)),
    }
    started = time.monotonic()
    runs = ModelRuns(key.profile, str(key), network.seeds, flat(config), tags)
    status, outcome = "KILLED", {}
    try:
        with checkpoint.whole_folder(key.folder) as folder:
            _train(key, experiment, runs, folder)
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


def _train(key: ModelKey, experiment: Experiment, runs: ModelRuns, folder: Path) -> None:
    network, training_data, settings = experiment
    steps = steps_per_epoch(len(training_data.images), settings.batch_size)
    table: list[dict[str, float]] = []
    warned = False
    with TrainingProgress(str(key), settings.epochs, steps) as progress:
        optimizer = make_optimizer(network, settings)
        for record in train(network, optimizer, training_data, settings, on_step=progress.step):
            rows = history.rows(record, network.seeds)
            table += rows
            runs.log_epoch(rows)
            progress.epoch(record.epoch, record.validation.accuracy.mean().item())
            warning = near_singular(record, network.seeds)
            if warning and not warned:
                warned = True
                runs.warn(warning)
                print(f"{key}: {warning}", file=sys.stderr)
    history.write(folder / checkpoint.HISTORY, table)
    checkpoint.save_network(folder / checkpoint.NETWORK, network)


def near_singular(record: EpochRecord, seeds: Sequence[int]) -> str | None:
    """A sentence on the worst of the layers that are close to singular, if any is."""
    if record.diagnostics is None:
        return None
    numbers = record.diagnostics.condition_number
    if not close_to_singular(numbers).any():
        return None
    worst = numbers.argmax().item()
    seed, layer = divmod(int(worst), numbers.shape[1])
    return (
        f"warning: layer {layer + 1} of seed {seeds[seed]} is close to singular after epoch"
        f" {record.epoch} (condition number {numbers[seed, layer].item():.1e}): what is solved"
        f" with it in {str(numbers.dtype).removeprefix('torch.')} keeps fewer than two digits"
    )
