"""A model's training, epoch by epoch, from its start or from a state; and its files at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gaitprop import InvertibleNetwork
from gaitprop.diagnostics import close_to_singular
from gaitprop.training import EpochRecord, make_best_epochs, make_optimizer, steps_per_epoch, train
from pipeline.project import interruption
from pipeline.project.files import as_json
from pipeline.training import history, model_files, state_file
from pipeline.training.epochs import Epoch, kept
from pipeline.training.experiment import Experiment
from pipeline.training.progress_bar import TrainingProgress
from pipeline.training.training_record import Training


class Point(NamedTuple):
    """Training after an epoch: its record so far, and the state to go on from."""

    training: Training
    state: dict[str, Any]
    last: bool


def epochs(
    experiment: Experiment, training: Training, state: dict[str, Any] | None
) -> Iterator[Point]:
    """Trains as ``trained`` does; yields where it is after each epoch.

    ``training`` goes as far as the state. Raises as ``gaitprop.training.train`` and
    ``pipeline.project.interruption.check``.
    """
    if state is not None:
        # Also where nothing is left to train.
        yield Point(training, state, last=False)
    network, data, settings = experiment
    first_epoch = 0 if state is None else state["epoch"]
    steps = steps_per_epoch(len(data.images), settings.batch_size)
    behind_s, started = training.seconds, time.monotonic()
    with TrainingProgress(training.name, settings.epochs, steps, first_epoch) as progress:

        def on_step(count: int) -> None:
            interruption.check()
            progress.step(count)

        for record, epoch, snapshot in trained(experiment, state, on_step):
            warning = training.warning or near_singular(record, network.seeds)
            if warning is not None and training.warning is None:
                print(f"{training.name}: {warning}", file=sys.stderr)
            training = replace(
                training,
                epochs=[*training.epochs, epoch],
                seconds=behind_s + time.monotonic() - started,
                warning=warning,
            )
            progress.epoch(epoch.epoch, kept(training.epochs).mean("validation_accuracy"))
            yield Point(training, snapshot(), record.last)


def trained(
    experiment: Experiment,
    state: dict[str, Any] | None,
    on_step: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[EpochRecord, Epoch, Callable[[], dict[str, Any]]]]:
    """Trains the experiment's network in place; yields each epoch, and what takes a state of it.

    A state, from ``pipeline.training.state_file``, is gone on from.
    """
    network, data, settings = experiment
    optimizer, best = make_optimizer(network, settings), make_best_epochs(network, settings)
    first_epoch = 0
    if state is not None:
        state_file.restore(state, network, optimizer, best)
        first_epoch = state["epoch"]
    for record in train(network, optimizer, data, settings, first_epoch, on_step, best):
        rows = history.rows(record, network.seeds)
        snapshot = partial(state_file.snapshot, network, optimizer, record.epoch, best)
        yield record, Epoch(record.epoch, int(time.time() * 1000), rows), snapshot


def write_model(
    folder: Path, config: dict[str, Any], training: Training, network: InvertibleNetwork
) -> None:
    """Writes a trained model's files: equal trainings give equal bytes."""
    rows = [row for epoch in training.epochs for row in epoch.rows]
    history.write(folder / model_files.HISTORY, rows)
    model_files.save_network(folder / model_files.NETWORK, network)
    (folder / model_files.CONFIG).write_bytes(as_json(config))


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
