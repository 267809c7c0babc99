"""What Ray's trials report, put together trial by trial, and handed on as it comes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.params.search_space import Configuration
from pipeline.sweep import trial_records
from pipeline.sweep.trial_records import Record
from pipeline.training.epochs import STOPPED, Epoch


@dataclass
class Running:
    """A trial that has started and not ended."""

    trial: str
    configuration: Configuration
    started_ms: int
    epochs: list[Epoch] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def record(self, status: str, failure: str | None = None) -> Record:
        """The trial as it stands now."""
        return Record(
            trial=self.trial,
            rule=self.configuration.rule,
            values=self.configuration.values,
            status=status,
            epochs=list(self.epochs),
            failure=failure,
            started_ms=self.started_ms,
            ended_ms=_now_ms(),
            facts=dict(self.facts),
        )


class Listener(Protocol):
    """What wants to know of trials as they go."""

    def going(self, running: Running) -> None:
        """A trial has started, or has more epochs than before."""

    def ended(self, record: Record) -> None:
        """A trial has ended, and its record is on the disk."""

    def lost(self, running: Running, reason: str) -> None:
        """A trial's workers died, again and again: it has no result."""


class Collector:
    """Keeps the record of every trial; its methods are called by one thread.

    Args:
        folder: of the records.
        ended: the records that are there already.
        facts: of every trial alike: versions, commit.
        states: folder of the unfinished trials' states, one of which goes when its trial ends.

    Attributes:
        ended: the records, by trial.
        lost: why Ray gave up trials that had begun.
        dropped: how many it gave up before.
        failure: what a listener, or the disk, raised while it was told; it is told no more.
    """

    def __init__(
        self,
        folder: Path,
        ended: Mapping[str, Record],
        facts: Mapping[str, str],
        states: Path | None,
        listeners: Sequence[Listener],
    ) -> None:
        self._folder, self._facts, self._states = folder, dict(facts), states
        self._listeners = list(listeners)
        self.ended = dict(ended)
        self.lost: dict[str, str] = {}
        self.dropped = 0
        self.failure: Exception | None = None
        self._running: dict[str, Running] = {}

    def started(self, ray_trial: str, trial: str, configuration: Configuration) -> None:
        """Ray has started a trial, for the first time or after its worker was lost."""
        if trial in self.ended or ray_trial in self._running:
            return
        facts = {**self._facts, "ray.trial": ray_trial}
        running = Running(trial, configuration, _now_ms(), facts=facts)
        self._running[ray_trial] = running
        for listener in self._listeners:
            listener.going(running)

    def reported(self, ray_trial: str, result: Mapping[str, Any]) -> None:
        """A trial's worker has reported epochs, and the outcome if it was the last time."""
        running = self._running.get(ray_trial)
        if running is None:
            return
        # By the driver's clock, as the trial's start and end: a node's own may be hours off. And
        # in order: this report may have been faster on its way than the one before.
        off = _now_ms() - result["now_ms"]
        last = running.epochs[-1].ended_ms if running.epochs else running.started_ms
        new = []
        for each in result["epochs"]:
            last = max(last, each["ended_ms"] + off)
            new.append(Epoch(**{**each, "ended_ms": last}))
        running.epochs = trial_records.merged(running.epochs, new)
        running.facts |= result["facts"]
        if result["outcome"] is not None:
            self._end(ray_trial, result["outcome"], result["failure"])
        else:
            for listener in self._listeners:
                listener.going(running)

    def stopped(self, ray_trial: str) -> None:
        """Ray has ended a trial; without an outcome of its own it was stopped early."""
        if ray_trial in self._running:
            self._end(ray_trial, STOPPED, None)

    def failed(self, ray_trial: str, reason: str) -> None:
        """Ray has given up on a trial, whose workers died."""
        running = self._running.pop(ray_trial, None)
        if running is None:
            # Ray starts a trial anew that has begun, but drops one whose worker, used before by
            # another trial, died as it was about to begin.
            self.dropped += 1
            return
        self.lost[running.trial] = reason
        for listener in self._listeners:
            listener.lost(running, reason)

    def _end(self, ray_trial: str, status: str, failure: str | None) -> None:
        running = self._running.pop(ray_trial)
        if running.trial in self.ended:
            return
        record = running.record(status, failure)
        trial_records.write(self._folder, record)
        if self._states is not None:
            (self._states / f"{record.trial}.pt").unlink(missing_ok=True)
        self.ended[record.trial] = record
        self.lost.pop(record.trial, None)
        for listener in self._listeners:
            listener.ended(record)


def _now_ms() -> int:
    return int(time.time() * 1000)
