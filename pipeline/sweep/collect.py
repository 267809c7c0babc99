"""What Ray's trials report, put together trial by trial, and handed on as it comes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pipeline.params.search_space import Configuration
from pipeline.sweep import trial_records
from pipeline.sweep.trial_records import Record
from pipeline.training.epochs import FAILED, RUNNING, STOPPED, Epoch


class Listener(Protocol):
    """What wants to know of trials as they go."""

    def going(self, record: Record) -> None:
        """A trial has started, or has more epochs than before."""

    def ended(self, record: Record) -> None:
        """A trial has ended, and its record is on the disk."""

    def lost(self, record: Record) -> None:
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
        self._folder, self._facts, self._states = folder, facts, states
        self._listeners = listeners
        self.ended = dict(ended)
        self.lost: dict[str, str] = {}
        self.dropped = 0
        self.failure: Exception | None = None
        # By the trial's name at Ray.
        self._running: dict[str, Record] = {}

    def started(self, ray_trial: str, trial: str, configuration: Configuration) -> None:
        """Ray has started a trial, for the first time or after its worker was lost."""
        if trial in self.ended or ray_trial in self._running:
            return
        rule, values = configuration
        now, facts = _now_ms(), {**self._facts, "ray.trial": ray_trial}
        self._going(ray_trial, Record(trial, rule, values, RUNNING, [], None, now, now, facts))

    def reported(self, ray_trial: str, result: Mapping[str, Any]) -> None:
        """A trial's worker has reported epochs, and the outcome if it was the last time."""
        running = self._running.get(ray_trial)
        if running is None:
            return
        # By the driver's clock, as the trial's start and end: a node's own may be hours off. And
        # in order: this report may have been faster on its way than the one before.
        now = _now_ms()
        off = now - result["now_ms"]
        # A worker that goes on after another begins with what it takes over, and that holds: on
        # another device the epochs trained since, or all, have other bits.
        first = result["epochs"][0]["epoch"] if result["epochs"] else math.inf
        epochs = [each for each in running.epochs if each.epoch < first]
        last = epochs[-1].ended_ms if epochs else running.started_ms
        for each in result["epochs"]:
            last = max(last, min(each["ended_ms"] + off, now))
            epochs.append(Epoch(**{**each, "ended_ms": last}))
        facts = {**running.facts, **result["facts"]}
        running = replace(running, epochs=epochs, facts=facts, ended_ms=now)
        if result["outcome"] is not None:
            self._end(ray_trial, running, result["outcome"], result["failure"])
        else:
            self._going(ray_trial, running)

    def stopped(self, ray_trial: str) -> None:
        """Ray has ended a trial; without an outcome of its own it was stopped early."""
        if (running := self._running.get(ray_trial)) is not None:
            self._end(ray_trial, running, STOPPED, None)

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
            listener.lost(replace(running, status=FAILED, failure=reason, ended_ms=_now_ms()))

    def _going(self, ray_trial: str, record: Record) -> None:
        self._running[ray_trial] = record
        for listener in self._listeners:
            listener.going(record)

    def _end(self, ray_trial: str, running: Record, status: str, failure: str | None) -> None:
        del self._running[ray_trial]
        if running.trial in self.ended:
            return
        record = replace(running, status=status, failure=failure, ended_ms=_now_ms())
        trial_records.write(self._folder, record)
        if self._states is not None:
            (self._states / f"{record.trial}.pt").unlink(missing_ok=True)
        self.ended[record.trial] = record
        self.lost.pop(record.trial, None)
        for listener in self._listeners:
            listener.ended(record)


def _now_ms() -> int:
    return int(time.time() * 1000)
