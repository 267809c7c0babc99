"""MLflow runs of a sweep: one for the sweep, and nested in it one a trial.

The driver alone writes, in one thread, every few seconds what is new; so no node needs the store's
credentials, and a store that is away for a while costs time, not figures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.config import Params
from pipeline.data import ImageData
from pipeline.experiment import flat
from pipeline.sweep.collect import Running
from pipeline.sweep.records import FAILED, KILLED, RUNNING, Record
from pipeline.sweep.trial_runs import LEVEL_TAG, SWEEP_TAG, TrialRuns
from pipeline.tracking import (
    log_metrics,
    open_experiment,
    sentence,
    tracking_uri,
    without_password,
)

SEND_S = 3.0
# After a failure the pause doubles, up to this.
LONGEST_PAUSE_S = 30.0
LAST_PAUSE_S = 1.0


class SweepRuns:
    """A listener that brings every trial to MLflow.

    Args:
        params: the whole of params.yaml.
        images: the sweep's image set.
        sweep_id: names this sweep in the store, also when it is resumed.
        tags: of the sweep's run and of every trial's.
        tell: is given a sentence when the store cannot be reached, and one when it can again.

    Attributes:
        parent: the run of the sweep.
        problem: why the store could not be written the last time; None if it could.

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
        self.parent = self._find_or_start(params, experiment, sweep_id, tags)
        self._trials = TrialRuns(
            self._client, experiment, self.parent, sweep_id, params, images, tags
        )
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: dict[str, Record] = {}
        self._going: dict[str, Record] = {}
        self._arrived = 0
        self._closing = threading.Event()
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def going(self, running: Running) -> None:
        """See ``Listener``."""
        record = running.record(RUNNING)
        with self._lock:
            self._waiting[record.trial] = self._going[record.trial] = record

    def ended(self, record: Record) -> None:
        """See ``Listener``."""
        with self._lock:
            self._going.pop(record.trial, None)
            self._waiting[record.trial] = record

    def lost(self, running: Running, reason: str) -> None:
        """See ``Listener``."""
        self.ended(running.record(FAILED, reason))

    def bring_all(self, ended: Iterable[Record]) -> None:
        """Has every ended trial compared with what the store has, and completed there."""
        for record in ended:
            self.ended(record)

    def close(self, patience_s: float) -> bool:
        """Sends what is left; true if the store now has everything.

        It is waited for as long as something arrives every so many seconds: a store may be slow.
        Trials that have not ended become KILLED, until a resumed sweep goes on with them.
        """
        with self._lock:
            for trial, record in self._going.items():
                self._waiting[trial] = replace(record, status=KILLED)
        self._closing.set()
        arrived = -1
        while self._thread.is_alive() and self._arrived > arrived:
            arrived = self._arrived
            self._thread.join(patience_s)
        return not self._thread.is_alive() and not self._waiting

    def end(self, status: str, figures: Mapping[str, float], results: Path | None) -> bool:
        """Ends the run of the sweep, with the results as its artifacts; true if that worked."""
        from mlflow.exceptions import MlflowException

        try:
            if results is not None:
                self._client.log_artifacts(self.parent, str(results))
            if figures:
                log_metrics(self._client, self.parent, figures, step=0)
            self._client.set_terminated(self.parent, status)
        except (MlflowException, OSError) as error:
            self.problem = sentence(error)
            return False
        return True

    def ids(self) -> dict[str, str]:
        """The MLflow run of each trial that the store has."""
        return dict(self._trials.ids)

    def _find_or_start(
        self, params: Params, experiment: str, sweep_id: str, tags: Mapping[str, str]
    ) -> str:
        from mlflow.entities import Param

        wanted = f"tags.`{SWEEP_TAG}` = '{sweep_id}' and tags.`{LEVEL_TAG}` = 'sweep'"
        for found in self._client.search_runs([experiment], wanted, max_results=1):
            self._client.update_run(found.info.run_id, status="RUNNING")
            return str(found.info.run_id)
        own = {**tags, SWEEP_TAG: sweep_id, LEVEL_TAG: "sweep"}
        run = self._client.create_run(experiment, run_name=params.sweep.name, tags=own)
        facts = flat({"sweep": params.sweep.model_dump(exclude_none=True)})
        self._client.log_batch(
            run.info.run_id, params=[Param(name, str(value)) for name, value in facts.items()]
        )
        return str(run.info.run_id)

    def _work(self) -> None:
        from mlflow.exceptions import MlflowException

        pause = SEND_S
        while True:
            closing = self._closing.wait(pause)
            try:
                self._send()
            except (MlflowException, OSError) as error:
                self._trials.forget()
                self._fails(error)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                if closing:
                    time.sleep(LAST_PAUSE_S)
                continue
            self._works()
            pause = SEND_S
            if closing:
                return

    def _send(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                trial, record = next(iter(self._waiting.items()))
            self._trials.bring(record)
            self._arrived += 1
            with self._lock:
                if self._waiting[trial] is record:
                    del self._waiting[trial]

    def _fails(self, error: Exception) -> None:
        before, self.problem = self.problem, sentence(error)
        if before is None:
            self._tell(
                f"MLflow at {without_password(tracking_uri())} cannot be written"
                f" ({self.problem}); the sweep goes on, and what is missing is sent again"
            )

    def _works(self) -> None:
        if self.problem is not None:
            self.problem = None
            self._tell("MLflow can be written again")
