"""MLflow runs of a sweep: one for the sweep, and nested in it one a trial.

The driver alone writes, in one thread, every few seconds what is new; so no node needs the store's
credentials, and a store that is away for a while costs time, not figures. Runs are found by the
sweep's id and the trial's, so that a resumed sweep goes on with those it has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.data.image_tensors import ImageData
from pipeline.params.schema import Params
from pipeline.params.search_space import in_words
from pipeline.sweep.trial_records import Record, described_trial
from pipeline.tracking import run_metrics, run_view
from pipeline.tracking.run_descriptions import (
    COLOUR_TAG,
    NOTE_TAG,
    colour_of,
    describe_experiment,
    of_sweep,
    of_sweeps,
)
from pipeline.tracking.run_metrics import FAILURE_TAG, LAST_METRIC, LEVEL_TAG, StoredRun
from pipeline.tracking.sending import Sender
from pipeline.tracking.store import (
    end_run,
    explained,
    log_metrics,
    open_experiment,
    sentence,
    twice,
)
from pipeline.training.epochs import FAILED, FINISHED, KILLED, RUNNING, STOPPED, kept
from pipeline.training.experiment import flat, parameters

SWEEP_TAG, TRIAL_TAG = "gait.sweep_id", "gait.trial"
# For readers, whom an id tells nothing.
SWEEP_NAME_TAG = "gait.sweep"
SEND_S = 3.0


class SweepRuns:
    """A listener that sends every trial to MLflow.

    Args:
        params: the whole of params.yaml.
        images: the sweep's image set.
        sweep_id: names this sweep in the store, also when it is resumed.
        tags: of the sweep's run and of every trial's.
        tell: is given a sentence when the store cannot be reached, and one when it can again.

    Attributes:
        parent: the run of the sweep.
        ids: the run of each trial that the store has.
        sender: whose ``problem`` says why the store could not be written the last time.

    Raises:
        GaitError: the store cannot be used.
    """

    def __init__(
        self,
        params: Params,
        images: ImageData,
        sweep_id: str,
        tags: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self._client, self._experiment = open_experiment(f"{params.profile}-sweeps")
        self._params, self._images = params, images
        self._tags = {**tags, SWEEP_TAG: sweep_id, SWEEP_NAME_TAG: params.sweep.name}
        with explained():
            text, view = of_sweeps(params.profile), run_view.of_sweeps(params.sweep.space)
            twice(lambda: describe_experiment(self._client, self._experiment, text, view))
            self.parent = self._find_or_start()
        # Of trials, by trial; None until the store has been asked for them.
        self._runs: dict[str, StoredRun] | None = None
        self.ids: dict[str, str] = {}
        self._going: dict[str, Record] = {}
        self.sender = Sender(self._send, self._forget, "the sweep", tell, SEND_S)

    def going(self, record: Record) -> None:
        """See ``Listener``."""
        self._going[record.trial] = record
        self.sender.put(record.trial, record)

    def ended(self, record: Record) -> None:
        """See ``Listener``."""
        self._going.pop(record.trial, None)
        self.sender.put(record.trial, record)

    def lost(self, record: Record) -> None:
        """See ``Listener``."""
        self.ended(record)

    def close(self, patience_s: float, longest_s: float = math.inf) -> bool:
        """Sends what is left, as ``Sender`` does; true if the store now has everything.

        Trials that have not ended become KILLED, until a resumed sweep goes on with them (with
        Optuna it draws others).
        """
        for trial, record in self._going.items():
            self.sender.put(trial, replace(record, status=KILLED))
        return self.sender.close(patience_s, longest_s)

    def end(self, status: str, figures: Mapping[str, float], results: Path | None) -> bool:
        """Ends the run of the sweep, with the results as its artifacts; true if that worked.

        Trials of a driver that was killed, to which none came back, become KILLED.
        """
        try:
            self._kill(self._those("trial"))
            if results is not None:
                self._client.log_artifacts(self.parent, str(results))
            if figures:
                log_metrics(self._client, self.parent, figures, step=0)
            end_run(self._client, self.parent, status)
        except Exception as error:
            self.sender.problem = sentence(error)
            return False
        return True

    def abandon(self, sweep_id: str) -> None:
        """Ends the runs of a sweep that is dropped, whose driver may have been killed.

        Raises:
            GaitError: the store did not do it.
        """
        with explained():
            self._kill(f"tags.`{SWEEP_TAG}` = '{sweep_id}'")

    def _kill(self, wanted: str) -> None:
        going = f"{wanted} and attributes.status = '{RUNNING}'"
        while found := self._client.search_runs([self._experiment], going, max_results=1000):
            for run in found:
                self._client.set_terminated(run.info.run_id, KILLED)

    def _those(self, level: str) -> str:
        """What MLflow is asked for: this sweep's run, or those of its trials."""
        return f"tags.`{SWEEP_TAG}` = '{self._tags[SWEEP_TAG]}' and tags.`{LEVEL_TAG}` = '{level}'"

    def _find_or_start(self) -> str:
        wanted = self._those("sweep")
        for found in self._client.search_runs([self._experiment], wanted, max_results=1):
            self._client.update_run(found.info.run_id, status=RUNNING)
            return str(found.info.run_id)
        sweep, now_ms = self._params.sweep, int(time.time() * 1000)
        own = {**self._tags, LEVEL_TAG: "sweep", NOTE_TAG: of_sweep(self._params)}
        run = run_metrics.create(self._client, self._experiment, sweep.name, now_ms, own)
        facts = flat({"sweep": sweep.model_dump(exclude_none=True)})
        try:
            run_metrics.describe(self._client, run, facts)
        except BaseException:
            # Nobody knows this sweep's id yet: no other command would ever end the run.
            with suppress(Exception):
                end_run(self._client, run.run_id, FAILED)
            raise
        return run.run_id

    # From here on, what the sender's thread does.

    def _forget(self) -> None:
        """After a failure nobody knows what arrived: the store is asked before the next sending."""
        self._runs = None

    def _send(self, record: Record) -> None:
        """Makes the trial's run what the record says; sends the difference alone."""
        if self._runs is None:
            self._runs = run_metrics.search(
                self._client,
                self._experiment,
                self._those("trial"),
                lambda run: str(run.data.tags[TRIAL_TAG]),
            )
        run = self._runs.get(record.trial)
        if run is None:
            run = self._runs[record.trial] = self._start(record)
        self.ids[record.trial] = run.run_id
        # MLflow has no word for stopped early.
        status = FINISHED if record.status == STOPPED else record.status
        # One that failed, or was killed, may since have gone on and failed for another reason.
        if run.status == status == FINISHED and run.described:
            return
        if not run.described:
            config = described_trial(self._params, record.configuration, self._images)
            run_metrics.describe(self._client, run, parameters(config))
        run_metrics.reopen(self._client, run)
        run_metrics.send_epochs(self._client, run, record.epochs)
        if status != RUNNING:
            self._end(run, record, status)

    def _start(self, record: Record) -> StoredRun:
        own = {TRIAL_TAG: record.trial, COLOUR_TAG: colour_of(record.rule)}
        above = {LEVEL_TAG: "trial", "mlflow.parentRunId": self.parent}
        tags = {**self._tags, **above, **record.facts, **own}
        name = in_words(self._params, record.configuration)
        return run_metrics.create(self._client, self._experiment, name, record.started_ms, tags)

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
