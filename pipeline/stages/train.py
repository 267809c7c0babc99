"""Train stage: one model, all its seeds side by side, tracked from the first epoch to the last.

What ends this process early, a signal, a crash or a full disk, costs the epochs since the last
state; the same command goes on from there and ends with the same bits, in the same MLflow runs.
"""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from gaitprop import ArgumentError, DivergenceError, SingularLayerError
from pipeline.data import image_tensors
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError, os_sentence
from pipeline.project.files import check_writable, whole_folder
from pipeline.project.interruption import Interrupted, interruptible
from pipeline.project.paths import ModelKey, data_file
from pipeline.project.source import source
from pipeline.tracking import delivery
from pipeline.tracking.delivery import Delivery
from pipeline.tracking.model_runs import abandon
from pipeline.tracking.periodic_states import StateWriter
from pipeline.tracking.run_metrics import FAILURE_TAG
from pipeline.tracking.store import KEY_TAG, named_store, open_experiment, provenance_tags
from pipeline.training import plugin_source, resuming
from pipeline.training.epochs import FAILED, FINISHED
from pipeline.training.experiment import (
    NO_MEMORY,
    Experiment,
    choose_numerics,
    described,
    device_name,
    lacks_memory,
    parameters,
    prepare,
)
from pipeline.training.identity import CODE_TAG, identity, machine, training_code_checksum
from pipeline.training.model_files import result_checksum
from pipeline.training.training_loop import Point, epochs, write_model
from pipeline.training.training_record import Training, ended


def run(params: Params, key: ModelKey) -> Path:
    """Trains the model and writes its folder: network, history, config.

    After a GaitError the folder is as it was before: the data is missing or too small for a batch,
    another process trains the model, the tracking store cannot be used at the start, or training
    diverged. After Interrupted, which a signal asked for, there is a state to go on from.
    """
    choose_numerics(params)
    images = image_tensors.load(data_file(params.profile, key.dataset))
    experiment = prepare(params, key, images)
    check_writable(key.folder.parent)
    with resuming.held(key) as place, interruptible():
        _train(key, described(params, key, images.checksum), experiment, place)
    return key.folder


def _train(key: ModelKey, config: dict[str, Any], experiment: Experiment, place: Path) -> None:
    device = experiment.network.device
    own = identity(config, device)
    client, store = open_experiment(key.profile)
    delivery.deliver_kept(resuming.STATES / key.profile)
    begun = resuming.begin(place, key, own, _new(key, config, experiment), device, named_store())
    if begun.replaced is not None:
        with contextlib.suppress(Exception):
            abandon(client, store, begun.replaced)
    if begun.store is not None:
        was, now = (each or "the project's own store" for each in (begun.store, named_store()))
        print(
            f"{key}: its runs in {was} stay there as they are; {now} has all from now on",
            file=sys.stderr,
        )
    if begun.state is not None:
        print(f"{key}: goes on after epoch {_progress(experiment, begun.state)}", file=sys.stderr)
    sending = Delivery(client, store, begun.training)
    states = StateWriter(begun.training, own, place, sending)
    point: Point | None = None
    try:
        for point in epochs(experiment, begun.training, begun.state):
            states.save_if_due(point)
        assert point is not None
        with whole_folder(key.folder) as folder:
            write_model(folder, config, point.training, experiment.network)
        outcome = {KEY_TAG: result_checksum(key.folder)}
        _deliver(key, place, sending, ended(point.training, FINISHED, outcome))
        resuming.clear(place)
    except (DivergenceError, SingularLayerError) as error:
        training = point.training if point is not None else begun.training
        failed = ended(training, FAILED, {FAILURE_TAG: str(error)})
        _deliver(key, place, sending, failed)
        resuming.clear(place)
        raise GaitError(f"{key}: {error}") from error
    except Interrupted as signal:
        how = states.save_last(point, {})
        done = _progress(experiment, point.state) if point is not None else "0"
        raise Interrupted(
            signal.number, f"{key}: stopped by {signal.name} after epoch {done}; {how}"
        ) from None
    except (Exception, SystemExit) as error:
        how = states.save_last(point, {FAILURE_TAG: f"{type(error).__name__}: {error}"})
        if isinstance(error, OSError):
            raise GaitError(f"{key}: {os_sentence(error)}; {how}") from error
        if isinstance(error, ArgumentError):
            raise GaitError(f"{key}: {error}; {how}") from error
        if lacks_memory(error):
            raise GaitError(f"{key}: {NO_MEMORY}; {how}") from error
        if isinstance(error, SystemExit):
            # Of a package's rule: it would end this process without a word.
            raise GaitError(f"{key}: SystemExit: {error}; {how}") from error
        raise


def _new(key: ModelKey, config: dict[str, Any], experiment: Experiment) -> Training:
    network = experiment.network
    tags = {
        "gait.profile": key.profile,
        "gait.dataset": key.dataset,
        "gait.architecture": key.architecture,
        "gait.model": key.model,
        **machine(),
        CODE_TAG: training_code_checksum(config["rule"]),
        **plugin_source.tags_of(config["rule"]),
        **provenance_tags(source(), config["data"]["sha256"], device_name(network.device)),
    }
    return Training(
        id=uuid.uuid4().hex,
        experiment=key.profile,
        name=str(key),
        folder=str(key.folder),
        seeds=list(network.seeds),
        parameters=parameters(config),
        tags=tags,
        started_ms=int(time.time() * 1000),
    )


def _deliver(key: ModelKey, place: Path, sending: Delivery, training: Training) -> None:
    if sending.close(training, delivery.patience_s()):
        return
    try:
        kept = delivery.keep(place, training)
    except OSError as error:
        raise GaitError(
            f"{key}: MLflow lacks the end of this training ({sending.problem}), and it cannot be"
            f" kept for later ({os_sentence(error)}): run the same command when there is room"
        ) from None
    print(
        f"{key}: MLflow lacks the end of this training ({sending.problem}); it is kept in {kept},"
        " and the next `gait train` or `gait repro` delivers it",
        file=sys.stderr,
    )


def _progress(experiment: Experiment, state: dict[str, Any]) -> str:
    return f"{state['epoch']} of {experiment.settings.epochs}"
