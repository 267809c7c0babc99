"""What the MLflow store has of a sweep's trials, and what it lacks: one nested run a trial.

``bring`` may be called with the same record again and again: it sends the difference. Runs are
found by the sweep's id and the trial's, so that a resumed sweep goes on with those it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.data.image_tensors import ImageData
from pipeline.params import search_space
from pipeline.params.schema import Params
from pipeline.sweep.trial_records import Record
from pipeline.tracking.run_descriptions import chart_name
from pipeline.tracking.store import METRICS_A_REQUEST, end_run
from pipeline.training.epochs import FAILED, FINISHED, KILLED, RUNNING, STOPPED, Epoch
from pipeline.training.experiment import described, flat

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

SWEEP_TAG, TRIAL_TAG, LEVEL_TAG = "gait.sweep_id", "gait.trial", "gait.level"
STATUS = {
    RUNNING: "RUNNING",
    KILLED: "KILLED",
    FINISHED: "FINISHED",
    STOPPED: "FINISHED",
    FAILED: "FAILED",
}
# Sent last of an epoch: where this metric is, the epoch is complete.
LAST_METRIC = "validation_accuracy"
RUNS_A_PAGE = 1000


@dataclass
class _Run:
    """A run in the store; its steps are unknown until they have been asked for."""

    run_id: str
    status: str
    described: bool
    steps: set[int] | None


class TrialRuns:
    """The nested runs of one sweep.

    Args:
        client: of the store.
        experiment_id: the MLflow experiment.
        parent: the run of the sweep.
        sweep_id: names the sweep in the store.
        params: the whole of params.yaml.
        images: the sweep's image set.
        tags: of every trial alike.

    Attributes:
        ids: the run of each trial that has been brought.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        parent: str,
        sweep_id: str,
        params: Params,
        images: ImageData,
        tags: Mapping[str, str],
    ) -> None:
        self._client, self._experiment_id = client, experiment_id
        self._params, self._images = params, images
        self._tags = {
            **tags,
            SWEEP_TAG: sweep_id,
            LEVEL_TAG: "trial",
            "mlflow.parentRunId": parent,
        }
        self._runs: dict[str, _Run] | None = None
        self.ids: dict[str, str] = {}

    def forget(self) -> None:
        """After a failure nobody knows what arrived: the store is asked before the next sending."""
        self._runs = None

    def bring(self, record: Record) -> None:
        """Makes the trial's run what the record says.

        Raises:
            MlflowException, OSError: the store did not do it.
        """
        if self._runs is None:
            self._runs = self._in_store()
        run = self._runs.get(record.trial)
        if run is None:
            run = self._runs[record.trial] = self._start(record)
        self.ids[record.trial] = run.run_id
        status = STATUS[record.status]
        if run.status == status != "RUNNING" and run.described:
            return
        if not run.described:
            self._describe(run, record)
        if run.status != "RUNNING":
            self._client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
        self._send_epochs(run, record.epochs)
        if status != "RUNNING":
            self._end(run, record, status)

    def _in_store(self) -> dict[str, _Run]:
        found: dict[str, _Run] = {}
        token: str | None = None
        wanted = f"tags.`{SWEEP_TAG}` = '{self._tags[SWEEP_TAG]}' and tags.`{LEVEL_TAG}` = 'trial'"
        while True:
            page = self._client.search_runs(
                [self._experiment_id], wanted, max_results=RUNS_A_PAGE, page_token=token
            )
            for each in page:
                found[each.data.tags[TRIAL_TAG]] = _Run(
                    each.info.run_id, each.info.status, bool(each.data.params), steps=None
                )
            token = page.token
            if not token:
                return found

    def _start(self, record: Record) -> _Run:
        run = self._client.create_run(
            self._experiment_id,
            start_time=record.started_ms,
            run_name=str(record.configuration),
            tags={**self._tags, **record.facts, TRIAL_TAG: record.trial},
        )
        return _Run(run.info.run_id, "RUNNING", described=False, steps=set())

    def _describe(self, run: _Run, record: Record) -> None:
        from mlflow.entities import Param

        params = search_space.experiment(self._params, record.configuration)
        key = search_space.key(params, record.rule)
        facts = flat(described(params, key, self._images))
        self._client.log_batch(run.run_id, params=[Param(k, str(v)) for k, v in facts.items()])
        run.described = True

    def _send_epochs(self, run: _Run, epochs: list[Epoch]) -> None:
        if run.steps is None:
            history = self._client.get_metric_history(run.run_id, LAST_METRIC)
            run.steps = {metric.step for metric in history}
        missing = [epoch for epoch in epochs if epoch.epoch not in run.steps]
        self._log(run, [metric for epoch in missing for metric in _metrics(epoch)])
        run.steps |= {epoch.epoch for epoch in missing}

    def _end(self, run: _Run, record: Record, status: str) -> None:
        from mlflow.entities import RunTag

        tags = {**record.facts, "gait.outcome": record.status}
        if record.failure is not None:
            tags["gait.failure"] = record.failure
        metrics = []
        if record.epochs and record.status in (FINISHED, STOPPED):
            last = record.epochs[-1]
            for row in last.rows:
                name = f"{LAST_METRIC}_seed_{row['seed']:.0f}"
                metrics.append(_metric(name, row[LAST_METRIC], last))
        self._client.log_batch(
            run.run_id, metrics=metrics, tags=[RunTag(k, v) for k, v in tags.items()]
        )
        end_run(self._client, run.run_id, status, record.ended_ms)
        run.status = status

    def _log(self, run: _Run, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), METRICS_A_REQUEST):
            self._client.log_batch(run.run_id, metrics=metrics[start : start + METRICS_A_REQUEST])


def _metrics(epoch: Epoch) -> list[Metric]:
    means = epoch.means()
    means[LAST_METRIC] = means.pop(LAST_METRIC)
    return [_metric(chart_name(name), value, epoch) for name, value in means.items()]


def _metric(name: str, value: Any, epoch: Epoch) -> Metric:
    from mlflow.entities import Metric

    # The epoch's own time: what is sent twice is the same point of the curve.
    return Metric(name, value, epoch.ended_ms, epoch.epoch)
