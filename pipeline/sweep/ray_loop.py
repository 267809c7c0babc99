"""Ray Tune's loop: every configuration is tried where there is room, and what happens is told."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial

from pipeline.data.image_tensors import ImageData
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project.interruption import STOPPING
from pipeline.sweep import ray_cluster, searcher
from pipeline.sweep.collect import Collector
from pipeline.sweep.trial import CHOSEN, METRIC, Task, as_text, configuration_of
from pipeline.sweep.trial import run as run_trial
from pipeline.sweep.trial_records import trial_id

# A trial whose worker or node is lost starts again this often, from its last state.
RESTARTS = 3
# Between two looks at the cluster.
LOOK_S = 10.0


def fit(
    params: Params,
    task: Task,
    configurations: Sequence[Configuration],
    collector: Collector,
    going_on: str,
) -> int | None:
    """Runs trials until all have ended; returns the signal that ended it before, None if none did.

    ``configurations`` are those of a grid or of random search; optuna's come from its sampler.
    ``going_on`` is the command that goes on with the sweep, told where the cluster is lost.
    """
    sweep = params.sweep
    sampler: searcher.OptunaByRule | None = None
    scheduler: searcher.AshaByRule | None = None
    space: dict[str, Any] = {}
    samples = 1
    if sweep.search == "optuna":
        samples = sweep.trials * len(sweep.rules)
        sampler = searcher.OptunaByRule(params, list(collector.ended.values()))
    else:
        space = {CHOSEN: tune.grid_search([as_text(each) for each in configurations])}
    if sweep.early_stopping == "asha":
        epochs = sweep.fixed.get("training.epochs", params.training.epochs)
        scheduler = searcher.AshaByRule(epochs, sweep.rules)
    resources = {"cpu": sweep.resources.cpus, "gpu": sweep.resources.gpus}
    trainable = tune.with_parameters(run_trial, task=task)
    events = _Events(params, task.images, collector, going_on)
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    try:
        # What Ray would keep of an experiment, the sweep's records hold already.
        with tempfile.TemporaryDirectory(prefix="gait-sweep-") as scratch:
            Tuner(
                tune.with_resources(trainable, resources),
                param_space=space,
                tune_config=TuneConfig(
                    metric=METRIC,
                    mode="max",
                    scheduler=scheduler,
                    search_alg=sampler,
                    num_samples=samples,
                    reuse_actors=True,
                    trial_dirname_creator=lambda each: each.trial_id,
                ),
                run_config=RunConfig(
                    name=sweep.name,
                    storage_path=scratch,
                    callbacks=[events],
                    failure_config=FailureConfig(max_failures=RESTARTS),
                    verbose=0,
                ),
            ).fit()
        return events.interrupted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class _Events(Callback):
    """A callback of Ray Tune's loop that tells the collector, and heeds the driver's signals."""

    def __init__(
        self, params: Params, images: ImageData, collector: Collector, going_on: str
    ) -> None:
        self._params, self._images, self._collector = params, images, collector
        # The signal that ended the loop.
        self.interrupted: int | None = None
        self._belonging, self._looked = ray_cluster.Belonging(going_on), time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray writes its callbacks into a file that is never read here."""
        return {}

    def setup(self, *_: Any, **__: Any) -> None:
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

    def on_step_end(self, *_: Any, **__: Any) -> None:
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
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **_: Any
    ) -> None:
        """A worker has reported."""
        self._tell(self._collector.reported, trial.trial_id, result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        """Ray has ended a trial; when it is leaving its loop, that means nothing."""
        if self.interrupted is None:
            self._tell(self._collector.stopped, trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Ray does not try again."""
        # Ray's own `get_error` looks where it would have been copied to.
        path = Path(trial.error_file or "")
        text = path.read_text(errors="replace") if path.is_file() else ""
        reason = (text.strip().splitlines() or ["its workers died"])[-1]
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
