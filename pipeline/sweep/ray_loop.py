"""Ray Tune's loop: every configuration is tried where there is room, and what happens is told."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner

from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.project.interruption import STOPPING
from pipeline.sweep import searcher, trial
from pipeline.sweep.collect import Collector
from pipeline.sweep.ray_events import Events
from pipeline.sweep.trial_records import Record

# A trial whose worker or node is lost starts again this often, from its last state.
RESTARTS = 3


def fit(
    params: Params,
    task: trial.Task,
    configurations: Sequence[Configuration],
    collector: Collector,
    going_on: str,
) -> int | None:
    """Runs trials until all have ended.

    Args:
        params: the whole of params.yaml.
        task: what the trials share.
        configurations: of a grid or of random search; optuna's come from its sampler.
        collector: is told what happens.
        going_on: the command that goes on with the sweep, told where the cluster is lost.

    Returns:
        The signal that ended it before all trials had; None if none did.
    """
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    events = Events(params, task.images, collector, going_on)
    tried = list(collector.ended.values())
    try:
        # What Ray would keep of an experiment, the sweep's records hold already.
        with tempfile.TemporaryDirectory(prefix="gait-sweep-") as scratch:
            _tuner(params, task, configurations, tried, events, scratch).fit()
        return events.interrupted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _tuner(
    params: Params,
    task: trial.Task,
    configurations: Sequence[Configuration],
    tried: Sequence[Record],
    events: Events,
    scratch: str,
) -> Tuner:
    sweep = params.sweep
    sampler: searcher.OptunaByRule | None = None
    space: dict[str, Any] = {}
    samples = 1
    if sweep.search == "optuna":
        samples, sampler = sweep.trials * len(sweep.rules), searcher.OptunaByRule(params, tried)
    else:
        space = {trial.CHOSEN: tune.grid_search([trial.as_text(each) for each in configurations])}
    resources = {"cpu": sweep.resources.cpus, "gpu": sweep.resources.gpus}
    trainable = tune.with_parameters(trial.run, task=task)
    return Tuner(
        tune.with_resources(trainable, resources),
        param_space=space,
        tune_config=TuneConfig(
            metric=trial.METRIC,
            mode="max",
            scheduler=searcher.scheduler(params),
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
    )
