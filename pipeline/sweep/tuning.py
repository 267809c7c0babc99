"""Ray Tune's loop: every configuration is tried where there is room, and what happens is told."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial

from pipeline.config import Params
from pipeline.data import ImageData
from pipeline.sweep import search, space, trial
from pipeline.sweep.collect import Collector
from pipeline.sweep.space import Configuration

# A trial whose worker or node is lost starts again this often, from its last state.
RESTARTS = 3


def fit(
    params: Params,
    task: trial.Task,
    configurations: Sequence[Configuration],
    collector: Collector,
) -> int | None:
    """Runs trials until all have ended.

    Args:
        params: the whole of params.yaml.
        task: what the trials share.
        configurations: of a grid or of random search; optuna's come from its sampler.
        collector: is told what happens.

    Returns:
        The signal that ended it before all trials had; None if none did.
    """
    sweep = params.sweep
    forward = Forward(params, task.images, collector)
    if sweep.search == "optuna":
        space_, samples = {}, sweep.trials * len(sweep.rules)
        searcher = search.OptunaByRule(params, list(collector.ended.values()))
    else:
        space_ = {"configuration": tune.grid_search([each._asdict() for each in configurations])}
        samples, searcher = 1, None
    resources = {"cpu": sweep.resources.cpus, "gpu": sweep.resources.gpus}
    trainable = tune.with_parameters(trial.run, task=task)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What Ray would keep of an experiment, the sweep's records hold already.
    with tempfile.TemporaryDirectory(prefix="gait-sweep-") as scratch:
        try:
            Tuner(
                tune.with_resources(trainable, resources),
                param_space=space_,
                tune_config=TuneConfig(
                    metric=trial.METRIC,
                    mode="max",
                    scheduler=search.scheduler(params),
                    search_alg=searcher,
                    num_samples=samples,
                    reuse_actors=True,
                    trial_dirname_creator=lambda each: each.trial_id,
                ),
                run_config=RunConfig(
                    name=sweep.name,
                    storage_path=scratch,
                    callbacks=[forward],
                    failure_config=FailureConfig(max_failures=RESTARTS),
                    verbose=0,
                ),
            ).fit()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return forward.interrupted


class Forward(Callback):
    """Hands what happens in Ray's loop on to the collector."""

    def __init__(self, params: Params, images: ImageData, collector: Collector) -> None:
        self._params, self._images, self._collector = params, images, collector
        self.interrupted: int | None = None

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
        """Ctrl-C and SIGTERM end Ray's loop after the step it is in; a second one ends it now."""

        def leave(number: int, _: FrameType | None) -> None:
            self.interrupted = number
            signal.signal(number, signal.default_int_handler)
            # On this one Ray leaves its loop.
            signal.raise_signal(signal.SIGUSR1)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A worker begins."""
        tried = Configuration(**trial.config["configuration"])
        trial_id = space.trial_id(self._params, tried, self._images)
        self._collector.started(trial.trial_id, trial_id, tried)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: Mapping[str, Any],
        **_: Any,
    ) -> None:
        """A worker has reported."""
        self._collector.reported(trial.trial_id, result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        """Ray has ended a trial."""
        if self.interrupted is None:
            self._collector.stopped(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Ray has given a trial up."""
        lines = str(trial.get_error() or "its workers died").strip().splitlines()
        self._collector.failed(trial.trial_id, lines[0] if lines else "its workers died")
