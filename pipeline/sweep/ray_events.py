"""Word of what happens in Ray Tune's loop, from where the loop runs to the sweep's collector.

The loop runs in the driver, or, if the driver is a client of a far cluster (``ray://``), in an
actor on the cluster's head; then a queue brings the news.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.util.queue import Empty, Queue

from pipeline.data.image_tensors import ImageData
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.sweep.collect import Collector
from pipeline.sweep.trial_id import trial_id

WAIT_S = 1.0


class Event(NamedTuple):
    """What happened to which of Ray's trials: a method of the collector, and its argument."""

    what: str
    ray_trial: str
    content: Any = None


class Way(Protocol):
    """Where events are put."""

    def put(self, event: Event) -> None:
        """Hands one event on."""


class Here:
    """Tells the collector at once, in the same thread."""

    def __init__(self, params: Params, images: ImageData, collector: Collector) -> None:
        self._params, self._images, self.collector = params, images, collector

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray writes its callbacks into a file that is never read here."""
        return {}

    def put(self, event: Event) -> None:
        """See ``Way``. What goes wrong here, a full disk say, ends the loop, and no trial."""
        if self.collector.failure is not None:
            return
        try:
            self._tell(event)
        except Exception as error:
            self.collector.failure = error

    def _tell(self, event: Event) -> None:
        if event.what == "started":
            configuration = Configuration(**event.content)
            trial = trial_id(self._params, configuration, self._images)
            self.collector.started(event.ray_trial, trial, configuration)
        elif event.what == "reported":
            self.collector.reported(event.ray_trial, event.content)
        elif event.what == "stopped":
            self.collector.stopped(event.ray_trial)
        else:
            self.collector.failed(event.ray_trial, event.content)


class Forward(Callback):
    """A callback of Ray Tune's loop that says what happens there."""

    def __init__(self, way: Way | Queue) -> None:
        self._way = way

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A worker begins."""
        self._put(Event("started", trial.trial_id, trial.config["configuration"]))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: Mapping[str, Any],
        **_: Any,
    ) -> None:
        """A worker has reported."""
        said = {name: result[name] for name in ("epochs", "outcome", "failure", "facts")}
        self._put(Event("reported", trial.trial_id, said))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        """Ray has ended a trial."""
        self._put(Event("stopped", trial.trial_id))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Ray has given a trial up."""
        lines = str(trial.get_error() or "").strip().splitlines()
        self._put(Event("failed", trial.trial_id, lines[-1] if lines else "its workers died"))

    def _put(self, event: Event) -> None:
        self._way.put(event)


class ForwardHere(Forward):
    """The same in the driver's own process, whose signals it heeds.

    Attributes:
        interrupted: the signal that ended the loop; None if none did.
    """

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        self._here = here
        self.interrupted: int | None = None

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **_: Any,
    ) -> None:
        """Ctrl-C and SIGTERM end Ray's loop after the step it is in; a second one ends it now."""

        def leave(number: int, _: FrameType | None) -> None:
            self.interrupted = number
            signal.signal(number, signal.default_int_handler)
            # On this one Ray leaves its loop.
            signal.raise_signal(signal.SIGUSR1)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        """Ray has ended a trial; when it is leaving its loop, that means nothing."""
        if self.interrupted is None and self._here.collector.failure is None:
            super().on_trial_complete(iteration, trials, trial)

    def _put(self, event: Event) -> None:
        before = self._here.collector.failure
        super()._put(event)
        if before is not self._here.collector.failure:
            signal.raise_signal(signal.SIGUSR1)


class Reader:
    """A thread that tells the collector what a far loop puts into a queue."""

    def __init__(self, news: Queue, here: Here) -> None:
        self._news, self._here = news, here
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="news", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends once everything that is in the queue has been told."""
        self._closing.set()
        self._thread.join()

    def _read(self) -> None:
        while True:
            try:
                self._here.put(self._news.get(timeout=WAIT_S))
            except (Empty, queue.Empty):
                if self._closing.is_set():
                    return
