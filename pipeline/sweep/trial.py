"""What runs in a Ray worker: one configuration, all its seeds side by side, reported as it goes."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gaitprop import DivergenceError, SingularLayerError
from gaitprop.training import EpochRecord, make_optimizer, train
from pipeline import history, training_state
from pipeline.config import Params
from pipeline.data import ImageData
from pipeline.experiment import device_name, prepare, threads
from pipeline.sweep import space
from pipeline.sweep.records import FAILED, FINISHED, Epoch, Record
from pipeline.sweep.space import Configuration

METRIC = "validation_accuracy"
# What search and early stopping are told of a trial that failed: no accuracy is below it.
WORST = 0.0


@dataclass(frozen=True)
class Task:
    """What all trials of a sweep share; Ray brings it to each node once.

    Attributes:
        params: the whole of params.yaml.
        images: the sweep's image set.
        ended: records by trial, of configurations that may be suggested again.
        states: folder of the states of unfinished trials, which every node sees; None: no states.
        state_s: seconds of training between two states.
        report_s: seconds between two reports; 0: one every epoch.
    """

    params: Params
    images: ImageData
    ended: Mapping[str, Record] = field(default_factory=dict)
    states: Path | None = None
    state_s: float = 30.0
    report_s: float = 1.0


def run(config: Mapping[str, Any], task: Task) -> None:
    """A Ray trainable: trains ``config``'s configuration, or tells what came of it before.

    Args:
        config: ``configuration``, of a rule and its values.
        task: see ``Task``.
    """
    configuration = Configuration(**config["configuration"])
    trial = space.trial_id(task.params, configuration, task.images)
    reports = _Reports(trial, task.report_s)
    if trial in task.ended:
        record = task.ended[trial]
        for epoch in record.epochs:
            reports.add(epoch, last=epoch is record.epochs[-1])
        reports.end(record.status, record.failure)
    else:
        _train(configuration, trial, task, reports)


class _Reports:
    """Reports to Ray: the epochs since the last one, and in the end how it ended."""

    def __init__(self, trial: str, every_s: float) -> None:
        self._trial, self._every_s = trial, every_s
        self._facts = {"host": socket.gethostname(), "node": _node(), "pid": str(os.getpid())}
        self._facts["version.python"] = platform.python_version()
        self._pending: list[Epoch] = []
        self._last: Epoch | None = None
        self._sent = time.monotonic()

    def device(self, name: str) -> None:
        self._facts["device"] = name

    def add(self, epoch: Epoch, last: bool = False) -> None:
        """One more epoch; the last one is sent by ``end``."""
        self._pending.append(epoch)
        self._last = epoch
        if not last and time.monotonic() - self._sent >= self._every_s:
            self._send(None, None)

    def end(self, status: str, failure: str | None) -> None:
        self._send(status, failure)

    def _send(self, status: str | None, failure: str | None) -> None:
        from ray import tune

        last = self._last
        failed = status == FAILED or last is None
        tune.report(
            {
                "trial": self._trial,
                "epoch": last.epoch if last is not None else 0,
                METRIC: WORST if failed or last is None else last.mean(METRIC),
                "epochs": [asdict(each) for each in self._pending],
                "outcome": status,
                "failure": failure,
                "facts": self._facts,
            }
        )
        self._pending = []
        self._sent = time.monotonic()


def _train(configuration: Configuration, trial: str, task: Task, reports: _Reports) -> None:
    params = space.experiment(task.params, configuration)
    state = task.states / f"{trial}.pt" if task.states is not None else None
    with threads(params.training.threads):
        made = prepare(params, space.key(params, configuration.rule), task.images)
        network, settings = made.network, made.settings
        reports.device(device_name(network.device))
        optimizer = make_optimizer(network, settings)
        restored = training_state.load(state, network, optimizer) if state is not None else None
        epochs = [Epoch(**each) for each in restored.notes] if restored else []
        for epoch in epochs:
            reports.add(epoch, last=True)
        saved = time.monotonic()
        first_epoch = restored.epoch if restored else 0
        try:
            for record in train(network, optimizer, made.data, settings, first_epoch):
                epochs.append(_epoch(record, network.seeds))
                reports.add(epochs[-1], last=record.epoch == settings.epochs)
                due = time.monotonic() - saved >= task.state_s
                if state is not None and due and 0 < record.epoch < settings.epochs:
                    notes = [asdict(each) for each in epochs]
                    training_state.save(state, network, optimizer, record.epoch, notes)
                    saved = time.monotonic()
        except (DivergenceError, SingularLayerError) as error:
            reports.end(FAILED, str(error))
        else:
            reports.end(FINISHED, None)


def _epoch(record: EpochRecord, seeds: tuple[int, ...]) -> Epoch:
    return Epoch(record.epoch, int(time.time() * 1000), history.rows(record, seeds))


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
