"""MLflow runs of a sweep: one for the sweep, and nested in it one a trial.

The driver alone writes, in one thread, every few seconds what is new; so no node needs the store's
credentials, and a store that is away for a while costs time, not figures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.data.image_tensors import ImageData
from pipeline.params.schema import Params
from pipeline.sweep.collect import Running
from pipeline.sweep.trial_records import Record
from pipeline.sweep.trial_runs import SWEEP_NAME_TAG, SWEEP_TAG, TrialRuns
from pipeline.tracking import run_view
from pipeline.tracking.run_descriptions import NOTE_TAG, describe_experiment, of_sweep, of_sweeps
from pipeline.tracking.run_metrics import LEVEL_TAG
from pipeline.tracking.sending import Sender
from pipeline.tracking.store import (
    end_run,
    explained,
    log_metrics,
    open_experiment,
    sentence,
    start_run,
    twice,
)
from pipeline.training.epochs import FAILED, KILLED, RUNNING
from pipeline.training.experiment import flat

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
        self._client, experiment = open_experiment(f"{params.profile}-sweeps")
        self._experiment, self._sweep_id = experiment, sweep_id
        with explained():
            text, view = of_sweeps(params.profile), run_view.of_sweeps(params.sweep.space)
            twice(lambda: describe_experiment(self._client, experiment, text, view))
            self.parent = self._find_or_start(params, experiment, sweep_id, tags)
        self._trials = TrialRuns(
            self._client, experiment, self.parent, sweep_id, params, images, tags
        )
        self._lock = threading.Lock()
        self._going: dict[str, Record] = {}
        self._sender = Sender(self._trials.send, self._trials.forget, "the sweep", tell, SEND_S)

    @property
    def problem(self) -> str | None:
        """Why the store could not be written the last time; None if it could."""
        return self._sender.problem

    def going(self, running: Running) -> None:
        """See ``Listener``."""
        record = running.record(RUNNING)
        with self._lock:
            self._going[record.trial] = record
            self._sender.put(record.trial, record)

    def ended(self, record: Record) -> None:
        """See ``Listener``."""
        with self._lock:
            self._going.pop(record.trial, None)
            self._sender.put(record.trial, record)

    def lost(self, running: Running, reason: str) -> None:
        """See ``Listener``."""
        self.ended(running.record(FAILED, reason))

    def close(self, patience_s: float) -> bool:
        """Sends what is left, as ``Sender`` does; true if the store now has everything.

        Trials that have not ended become KILLED, until a resumed sweep goes on with them (with
        Optuna it draws others).
        """
        with self._lock:
            for trial, record in self._going.items():
                self._sender.put(trial, replace(record, status=KILLED))
        return self._sender.close(patience_s)

    def end(self, status: str, figures: Mapping[str, float], results: Path | None) -> bool:
        """Ends the run of the sweep, with the results as its artifacts; true if that worked.

        Trials of a driver that was killed, to which none came back, become KILLED.
        """
        try:
            self._kill(f"{self._of(self._sweep_id)} and tags.`{LEVEL_TAG}` = 'trial'")
            if results is not None:
                self._client.log_artifacts(self.parent, str(results))
            if figures:
                log_metrics(self._client, self.parent, figures, step=0)
            end_run(self._client, self.parent, status)
        except Exception as error:
            self._sender.problem = sentence(error)
            return False
        return True

    def abandon(self, sweep_id: str) -> None:
        """Ends the runs of a sweep that is dropped, whose driver may have been killed.

        Raises:
            GaitError: the store did not do it.
        """
        with explained():
            self._kill(self._of(sweep_id))

    def ids(self) -> dict[str, str]:
        """The MLflow run of each trial that the store has."""
        return dict(self._trials.ids)

    @staticmethod
    def _of(sweep_id: str) -> str:
        return f"tags.`{SWEEP_TAG}` = '{sweep_id}'"

    def _kill(self, wanted: str) -> None:
        going = f"{wanted} and attributes.status = '{RUNNING}'"
        while found := self._client.search_runs([self._experiment], going, max_results=1000):
            for run in found:
                self._client.set_terminated(run.info.run_id, KILLED)

    def _find_or_start(
        self, params: Params, experiment: str, sweep_id: str, tags: Mapping[str, str]
    ) -> str:
        from mlflow.entities import Param

        wanted = f"{self._of(sweep_id)} and tags.`{LEVEL_TAG}` = 'sweep'"
        for found in self._client.search_runs([experiment], wanted, max_results=1):
            self._client.update_run(found.info.run_id, status="RUNNING")
            return str(found.info.run_id)
        own = {
            **tags,
            SWEEP_TAG: sweep_id,
            SWEEP_NAME_TAG: params.sweep.name,
            LEVEL_TAG: "sweep",
            NOTE_TAG: of_sweep(params),
        }
        run_id = start_run(self._client, experiment, params.sweep.name, own)
        facts = flat({"sweep": params.sweep.model_dump(exclude_none=True)})
        try:
            self._client.log_batch(
                run_id, params=[Param(name, str(value)) for name, value in facts.items()]
            )
        except BaseException:
            # Nobody knows this sweep's id yet: no other command would ever end the run.
            with suppress(Exception):
                end_run(self._client, run_id, FAILED)
            raise
        return run_id
