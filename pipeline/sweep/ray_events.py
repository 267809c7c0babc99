"""What happens in Ray Tune's loop, told to the sweep's collector; and the signals that end it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from pipeline.data.image_tensors import ImageData
from pipeline.params.schema import Params
from pipeline.project.interruption import STOPPING
from pipeline.sweep import ray_cluster
from pipeline.sweep.collect import Collector
from pipeline.sweep.trial import configuration_of
from pipeline.sweep.trial_id import trial_id

# Between two looks at the cluster.
LOOK_S = 10.0


class Events(Callback):
    """A callback of Ray Tune's loop that tells the collector, and heeds the driver's signals.

    Attributes:
        interrupted: the signal that ended the loop; None if none did.
    """

    def __init__(
        self, params: Params, images: ImageData, collector: Collector, going_on: str
    ) -> None:
        self._params, self._images, self._collector = params, images, collector
        self.interrupted: int | None = None
        self._belonging, self._looked = ray_cluster.Belonging(going_on), time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray writes its callbacks into a file that is never read here."""
        return {}

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **_: Any,
    ) -> None:
        """Ctrl-C and the like end Ray's loop after the step it is in; a second one ends it now."""

        def leave(number: int, _: FrameType | None) -> None:
            self.interrupted = number
            # A terminal that is closed tells it twice.
            again = signal.SIG_IGN if number == signal.SIGHUP else signal.default_int_handler
            signal.signal(number, again)
            # On this one Ray leaves its loop.
            signal.raise_signal(signal.SIGUSR1)

        for number in STOPPING:
            # What `nohup` has this process ignore stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, leave)

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Now and then it is seen to that this machine belongs to the cluster."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._tell(self._belonging.check)
            self._looked = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A worker begins."""
        configuration = configuration_of(trial.config)
        own = trial_id(self._params, configuration, self._images)
        self._tell(self._collector.started, trial.trial_id, own, configuration)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: Mapping[str, Any],
        **_: Any,
    ) -> None:
        """A worker has reported."""
        said = {name: result[name] for name in ("epochs", "outcome", "failure", "facts", "now_ms")}
        self._tell(self._collector.reported, trial.trial_id, said)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        """Ray has ended a trial; when it is leaving its loop, that means nothing."""
        if self.interrupted is None:
            self._tell(self._collector.stopped, trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Ray does not try again."""
        # Ray's own `get_error` looks where it would have been copied to.
        said = Path(trial.error_file) if trial.error_file is not None else None
        text = said.read_text(errors="replace") if said is not None and said.is_file() else ""
        lines = text.strip().splitlines()
        reason = lines[-1] if lines else "its workers died"
        self._tell(self._collector.failed, trial.trial_id, reason)

    def _tell(self, method: Callable[..., None], *facts: Any) -> None:
        """Tells the collector; what goes wrong there, a full disk say, ends the loop, no trial."""
        if self._collector.failure is not None:
            return
        try:
            method(*facts)
        except Exception as error:
            self._collector.failure = error
            # On this one Ray leaves its loop.
            signal.raise_signal(signal.SIGUSR1)
