"""What runs in a Ray worker: one configuration, all its seeds side by side, reported as it goes."""

from __future__ import annotations

import json
import platform
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from gaitprop import DivergenceError, SingularLayerError
from pipeline.data.image_tensors import ImageData
from pipeline.params import search_space
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project.errors import GaitError, os_sentence
from pipeline.sweep import ray_cluster, states
from pipeline.sweep.trial_records import Record, epochs_of, trial_id
from pipeline.training import state_file
from pipeline.training.epochs import FAILED, FINISHED, Epoch, kept
from pipeline.training.experiment import Experiment, choose_device, choose_numerics, prepare
from pipeline.training.identity import CODE_TAG, computing, machine, training_code_checksum
from pipeline.training.plugin_source import check
from pipeline.training.resuming import usable
from pipeline.training.training_loop import trained

# A configuration goes to Ray as text: for each value of a grid, Ray copies all of them.
CHOSEN = "configuration"
METRIC = "validation_accuracy"
# What search and early stopping are told of a trial that failed: no accuracy is below it.
WORST = 0.0
# What a worker has imported stays as it was, whatever becomes of the files.
_code = cache(training_code_checksum)


@dataclass(frozen=True)
class Task:
    """What all trials of a sweep share; Ray brings it to each node once.

    Attributes:
        params: the whole of params.yaml.
        images: the sweep's image set.
        libraries: versions that all nodes must have, those that come later, too.
        plugins: of each rule that is no built-in one, the code that all nodes must have.
        code: checksum by rule of what trained the sweep's first trial, and is to train the last.
        ended: records by trial, of configurations that may be suggested again.
        states: folder of the states of unfinished trials, which every node sees.
        keeper: who has that folder, where no node sees it; without either there are no states.
        state_s: seconds of training between two states.
        report_s: seconds between two reports; 0: one every epoch.
    """

    params: Params
    images: ImageData
    libraries: Mapping[str, str] = field(default_factory=ray_cluster.libraries)
    plugins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    ended: Mapping[str, Record] = field(default_factory=dict)
    states: Path | None = None
    keeper: Any = None
    state_s: float = 30.0
    report_s: float = 1.0


def as_text(configuration: Configuration) -> str:
    """What Ray is given for a configuration; ``configuration_of`` is the way back."""
    return json.dumps(configuration._asdict())


def configuration_of(config: Mapping[str, Any]) -> Configuration:
    """The configuration that a trial of Ray's has, by the trial's ``config``."""
    return Configuration(**json.loads(config[CHOSEN]))


def run(config: Mapping[str, Any], task: Task) -> None:
    """A Ray trainable: trains ``config``'s configuration, or tells what came of it before."""
    import ray
    from ray import tune

    facts = {
        "node": ray.get_runtime_context().get_node_id(),
        "host": socket.gethostname(),
        "version.python": platform.python_version(),
    }
    configuration = configuration_of(config)
    if task.keeper is None:
        attempt(configuration, task, facts, tune.report)
        return
    with tempfile.TemporaryDirectory(prefix="gait-states-") as own:
        attempt(configuration, replace(task, states=Path(own)), facts, tune.report)


def attempt(
    configuration: Configuration,
    task: Task,
    facts: Mapping[str, str],
    send: Callable[[dict[str, Any]], None],
) -> None:
    """Trains from the start or the last state, and reports as it goes; failures are reported, too.

    ``facts`` say where this is, and by what it computes is added; ``send`` takes a report.
    """
    rule = task.params.rule_of(configuration.rule)
    check(rule, task.plugins.get(rule))
    if unlike := ray_cluster.difference(task.libraries, ray_cluster.libraries()):
        raise GaitError(f"the sweep computes with {unlike} on {socket.gethostname()}")
    if task.code.get(rule, _code(rule)) != _code(rule):
        raise GaitError("the sweep's code was changed while it ran")
    # A node whose GPU does not work has no result, either: Ray may try another.
    choose_device(task.params.training.device)
    trial = trial_id(task.params, configuration, task.images)
    # Without them a trial that cannot even be prepared would seem computed by other code.
    own = as_facts({"code": _code(rule), **ray_cluster.libraries()})
    reports = _Reports(task.report_s, {**facts, **own}, send)
    if trial in task.ended:
        record = task.ended[trial]
        for epoch in record.epochs:
            reports.add(epoch, last=epoch is record.epochs[-1])
        reports.send(record.status, record.failure)
        return
    state = task.states / f"{trial}.pt" if task.states is not None else None
    try:
        params = search_space.experiment(task.params, configuration)
        choose_numerics(params)
        by = computing(_code(rule), choose_device(params.training.device))
        reports.facts |= {**machine(), **as_facts(by)}
        made = prepare(params, search_space.key(params, configuration.rule), task.images)
        _train(made, state, by, task, reports)
    except (DivergenceError, SingularLayerError, GaitError) as error:
        if _lacks_shared_memory(error, task):
            raise
        reports.send(FAILED, str(error))
    except (Exception, SystemExit) as error:
        # A GPU that fails spoils its process for the next trial, too: with this it ends.
        spoiled = isinstance(error, torch.AcceleratorError)
        if reports.unheard or spoiled or _lacks_shared_memory(error, task):
            raise
        # Out of memory, an error of a rule of one's own: it would come again, on any worker. Only
        # a worker that is gone is a reason to try once more.
        first = (str(error).strip().splitlines() or [""])[0]
        reports.send(FAILED, f"{type(error).__name__}: {first}")
    else:
        reports.send(FINISHED)


def _lacks_shared_memory(error: BaseException, task: Task) -> bool:
    """What a GPU lacks that several trials share, it may have later: no trial has failed by it."""
    lacks = any(isinstance(e, torch.OutOfMemoryError) for e in (error, error.__cause__))
    return lacks and task.params.sweep.resources.gpus % 1 != 0


class _Reports:
    """Reports: the epochs since the last one, and in the end how it ended."""

    def __init__(
        self, every_s: float, facts: dict[str, str], send: Callable[[dict[str, Any]], None]
    ) -> None:
        self.facts = facts
        self._every_s, self._send = every_s, send
        self._pending: list[Epoch] = []
        self._all: list[Epoch] = []
        self._sent = time.monotonic()
        # Whether nobody takes the reports any more: then no trial has failed.
        self.unheard = False

    def add(self, epoch: Epoch, last: bool = False) -> None:
        """One more epoch; the last one goes with the end."""
        self._pending.append(epoch)
        self._all.append(epoch)
        if not last and time.monotonic() - self._sent >= self._every_s:
            self.send()

    def send(self, outcome: str | None = None, failure: str | None = None) -> None:
        """A report; with an outcome it is the last one."""
        failed = outcome == FAILED or not self._all
        report = {
            "epoch": self._all[-1].epoch if self._all else 0,
            METRIC: WORST if failed else kept(self._all).mean(METRIC),
            "epochs": [asdict(each) for each in self._pending],
            "outcome": outcome,
            "failure": failure,
            "facts": self.facts,
            "now_ms": int(time.time() * 1000),
        }
        try:
            self._send(report)
        except BaseException:
            self.unheard = True
            raise
        self._pending = []
        self._sent = time.monotonic()


def as_facts(by: Mapping[str, str]) -> dict[str, str]:
    """What a trial was computed by, under the names that records and runs have for it."""
    names = {"code": CODE_TAG, "torch": "version.torch", "numpy": "version.numpy"}
    return {names.get(name, name): value for name, value in by.items()}


def _train(
    made: Experiment, path: Path | None, by: Mapping[str, str], task: Task, reports: _Reports
) -> None:
    device = made.network.device
    if path is not None and task.keeper is not None:
        try:
            states.fetch(task.keeper, path)
        except OSError as error:
            print(f"no state can be had ({os_sentence(error)}); the trial begins anew", flush=True)
    state = usable(path, device, by, "the trial", epochs_of) if path else None
    epochs: list[Epoch] = state["notes"] if state is not None else []
    for epoch in epochs:
        # All of it again: the driver may be another one by now, and early stopping compares trials
        # after equally many epochs.
        reports.add(epoch)
    saved = time.monotonic()
    for record, epoch, snapshot in trained(made, state):
        epochs.append(epoch)
        due = record.epoch and not record.last and time.monotonic() - saved >= task.state_s
        if path is not None and due:
            notes = {"identity": dict(by), "epochs": [asdict(each) for each in epochs]}
            try:
                state_file.write(path, snapshot(), notes)
                if task.keeper is not None:
                    states.send(task.keeper, path)
            except OSError as error:
                print(f"no state can be kept ({os_sentence(error)}); the trial goes on", flush=True)
            saved = time.monotonic()
        reports.add(epoch, record.last)
