"""What the MLflow store has of a sweep's trials, and what it lacks: one nested run a trial.

``send`` may be called with the same record again and again: it sends the difference. Runs are
found by the sweep's id and the trial's, so that a resumed sweep goes on with those it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.data.image_tensors import ImageData
from pipeline.params import search_space
from pipeline.params.schema import Params
from pipeline.sweep.trial_records import Record
from pipeline.tracking import run_metrics
from pipeline.tracking.run_descriptions import COLOUR_TAG, colour_of
from pipeline.tracking.run_metrics import FAILURE_TAG, LAST_METRIC, LEVEL_TAG, StoredRun
from pipeline.training.epochs import FINISHED, RUNNING, STOPPED, kept
from pipeline.training.experiment import described, parameters

if TYPE_CHECKING:
    from mlflow import MlflowClient

SWEEP_TAG, TRIAL_TAG = "gait.sweep_id", "gait.trial"
# For readers, whom an id tells nothing.
SWEEP_NAME_TAG = "gait.sweep"


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
        ids: the run of each trial that has been sent.
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
            SWEEP_NAME_TAG: params.sweep.name,
            LEVEL_TAG: "trial",
            "mlflow.parentRunId": parent,
        }
        self._runs: dict[str, StoredRun] | None = None
        self.ids: dict[str, str] = {}

    def forget(self) -> None:
        """After a failure nobody knows what arrived: the store is asked before the next sending."""
        self._runs = None

    def send(self, record: Record) -> None:
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
        # MLflow has no word for stopped early.
        status = FINISHED if record.status == STOPPED else record.status
        if run.status == status != RUNNING and run.described:
            return
        if not run.described:
            self._describe(run, record)
        run_metrics.reopen(self._client, run)
        run_metrics.send_epochs(self._client, run, record.epochs)
        if status != RUNNING:
            self._end(run, record, status)

    def _in_store(self) -> dict[str, StoredRun]:
        wanted = f"tags.`{SWEEP_TAG}` = '{self._tags[SWEEP_TAG]}' and tags.`{LEVEL_TAG}` = 'trial'"
        return run_metrics.search(
            self._client, self._experiment_id, wanted, lambda run: str(run.data.tags[TRIAL_TAG])
        )

    def _start(self, record: Record) -> StoredRun:
        tags = {**self._tags, **record.facts, TRIAL_TAG: record.trial}
        tags[COLOUR_TAG] = colour_of(record.rule)
        name = search_space.in_words(self._params, record.configuration)
        return run_metrics.create(self._client, self._experiment_id, name, record.started_ms, tags)

    def _describe(self, run: StoredRun, record: Record) -> None:
        params = search_space.experiment(self._params, record.configuration)
        key = search_space.key(params, record.rule)
        config = described(params, key, self._images.checksum)
        run_metrics.describe(self._client, run, parameters(config))

    def _end(self, run: StoredRun, record: Record, status: str) -> None:
        tags = {**record.facts, "gait.outcome": record.status}
        if record.failure is not None:
            tags[FAILURE_TAG] = record.failure
        metrics = []
        if record.epochs and record.status in (FINISHED, STOPPED):
            metrics = run_metrics.of_kept(record.epochs)
            last = kept(record.epochs)
            for row in last.rows:
                name = f"{LAST_METRIC}_seed_{row['seed']:.0f}"
                metrics.append(
                    run_metrics.metric(name, row[LAST_METRIC], last.ended_ms, last.epoch)
                )
        run_metrics.end(self._client, run, status, record.ended_ms, tags, metrics)
