"""The MLflow runs of one training: a parent of the model, and nested in it one run a seed.

``bring`` may be called again and again, by whichever process: it asks the store what is there and
sends the difference. So there is one parent run a training, with every step once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking import mlflow_model
from pipeline.tracking.run_descriptions import (
    NOTE_TAG,
    chart_name,
    data_of,
    describe_experiment,
    of_profile,
    of_training,
    run_name,
)
from pipeline.tracking.store import KEY_TAG, METRICS_A_REQUEST, end_run
from pipeline.training import history, model_files
from pipeline.training.epochs import FINISHED, KILLED, RUNNING, Epoch
from pipeline.training.model_files import result_checksum
from pipeline.training.training_record import Training

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

LEVEL_TAG, TRAINING_TAG, SEED_TAG = "gait.level", "gait.training", "gait.seed"
# Sent last of an epoch: where this metric is, the epoch is complete.
LAST_METRIC = "validation_accuracy"
DURATION = "duration_s"
MODEL = "model"


@dataclass
class _Run:
    """A run in the store, and what is known to be there."""

    run_id: str
    status: str
    described: bool
    has_duration: bool
    steps: set[int] | None


class ModelRuns:
    """The runs of one training in one store.

    The parent holds the means over the seeds; a child holds one seed's figures under the same
    metric names, so that the UI compares either.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client, self._experiment_id = client, experiment_id
        self._runs: dict[str, _Run] | None = None

    def forget(self) -> None:
        """After a failure nobody knows what arrived: the store is asked before the next sending."""
        self._runs = None

    def bring(self, training: Training) -> None:
        """Makes the runs what the record says.

        Raises:
            Of ``tracking.store_errors``: the store did not do it.
        """
        if self._runs is None:
            describe_experiment(self._client, self._experiment_id, of_profile(training.experiment))
            self._runs = self._in_store(training.id)
        parent = self._begun(training, MODEL, {**training.parameters, "seeds": training.seeds}, {})
        children = [
            self._begun(
                training,
                str(seed),
                {**training.parameters, "seed": seed},
                {"mlflow.parentRunId": parent.run_id},
            )
            for seed in training.seeds
        ]
        self._send(parent, training.epochs, Epoch.means)
        for index, child in enumerate(children):
            self._send(child, training.epochs, lambda epoch, index=index: epoch.rows[index])
        if training.warning is not None:
            self._client.set_tag(parent.run_id, "gait.warning", training.warning)
        if training.status == RUNNING:
            return
        if training.status == FINISHED:
            self._log_folder(parent.run_id, training)
        if parent.status != training.status:
            self._client.set_tag(parent.run_id, NOTE_TAG, of_training(training))
        if not parent.has_duration and training.status == FINISHED:
            assert training.ended_ms is not None
            metric = _metric(DURATION, training.seconds, training.ended_ms, 0)
            self._client.log_batch(parent.run_id, metrics=[metric])
        for run in [*children, parent]:
            self._end(run, training)

    def _in_store(self, training_id: str) -> dict[str, _Run]:
        found = {}
        wanted = f"tags.`{TRAINING_TAG}` = '{training_id}'"
        for each in self._client.search_runs([self._experiment_id], wanted, max_results=1000):
            tags, metrics = each.data.tags, each.data.metrics
            level = MODEL if tags[LEVEL_TAG] == MODEL else tags[SEED_TAG]
            found[level] = _Run(
                each.info.run_id,
                each.info.status,
                described=bool(each.data.params),
                has_duration=DURATION in metrics,
                steps=None if LAST_METRIC in metrics else set(),
            )
        return found

    def _begun(
        self, training: Training, level: str, parameters: Mapping[str, Any], tags: dict[str, str]
    ) -> _Run:
        from mlflow.entities import Param

        assert self._runs is not None
        run = self._runs.get(level)
        if run is None:
            name = run_name(training)
            if level == MODEL:
                own = {LEVEL_TAG: MODEL, NOTE_TAG: of_training(training)}
            else:
                name = f"{name}, seed {level}"
                own = {LEVEL_TAG: "seed", SEED_TAG: level}
            created = self._client.create_run(
                self._experiment_id,
                start_time=training.started_ms,
                run_name=name,
                tags={**training.tags, **tags, **own, TRAINING_TAG: training.id},
            )
            run = _Run(created.info.run_id, RUNNING, False, False, set())
            self._runs[level] = run
        if not run.described:
            plain = [Param(name, str(value)) for name, value in parameters.items()]
            self._client.log_inputs(run.run_id, [data_of(training)])
            self._client.log_batch(run.run_id, params=plain)
            run.described = True
        if run.status != RUNNING and training.status != run.status:
            self._client.update_run(run.run_id, status=RUNNING)
            run.status = RUNNING
        return run

    def _send(self, run: _Run, epochs: Sequence[Epoch], figures: Any) -> None:
        if run.steps is None:
            points = self._client.get_metric_history(run.run_id, LAST_METRIC)
            run.steps = {point.step for point in points}
        missing = [epoch for epoch in epochs if epoch.epoch not in run.steps]
        metrics = [metric for epoch in missing for metric in _metrics(figures(epoch), epoch)]
        for start in range(0, len(metrics), METRICS_A_REQUEST):
            self._client.log_batch(run.run_id, metrics=metrics[start : start + METRICS_A_REQUEST])
        run.steps |= {epoch.epoch for epoch in missing}

    def _log_folder(self, run_id: str, training: Training) -> None:
        folder = Path(training.folder)
        # Whoever trained this model anew since has replaced the files.
        try:
            there = result_checksum(folder) == training.outcome[KEY_TAG]
        except FileNotFoundError:
            there = False
        if not there:
            said = f"{folder} holds another model by now: this one's files are lost"
            self._client.set_tag(run_id, "gait.warning", said)
            return
        # matplotlib is slow to import, and only needed once training is done.
        from pipeline import figures

        self._client.log_artifacts(run_id, str(folder))
        curves = figures.model_curves(history.read(folder / model_files.HISTORY), training.name)
        self._client.log_figure(run_id, curves, "curves.svg")
        mlflow_model.send(self._client, self._experiment_id, run_id, training)

    def _end(self, run: _Run, training: Training) -> None:
        if run.status == training.status:
            return
        for key, value in training.outcome.items():
            self._client.set_tag(run.run_id, key, value)
        end_run(self._client, run.run_id, training.status, training.ended_ms)
        run.status = training.status


def abandon(client: MlflowClient, experiment_id: str, training_id: str) -> int:
    """Ends the runs of a training that nobody goes on with; how many there were.

    Raises:
        Of ``tracking.store_errors``: the store did not do it.
    """
    wanted = f"tags.`{TRAINING_TAG}` = '{training_id}' and attributes.status = '{RUNNING}'"
    found = client.search_runs([experiment_id], wanted, max_results=1000)
    for run in found:
        client.set_terminated(run.info.run_id, KILLED)
    return len(found)


def _metrics(figures: Mapping[str, float], epoch: Epoch) -> list[Metric]:
    names = [name for name in figures if name not in ("epoch", "seed", LAST_METRIC)]
    return [
        _metric(chart_name(name), figures[name], epoch.ended_ms, epoch.epoch)
        for name in [*names, LAST_METRIC]
    ]


def _metric(name: str, value: float, time_ms: int, step: int) -> Metric:
    from mlflow.entities import Metric

    # The epoch's own time: what is sent twice is the same point of the curve.
    return Metric(name, value, time_ms, step)
