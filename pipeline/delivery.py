"""Bringing a training to MLflow while it goes on, and later what could not be brought.

A thread of its own sends: a server that hangs or is away costs no training time and no figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pipeline.errors import GaitError
from pipeline.files import write_json
from pipeline.model_runs import ModelRuns
from pipeline.tracking import (
    explained,
    open_experiment,
    sentence,
    store_errors,
    tracking_uri,
    without_password,
)
from pipeline.training_record import Training, as_plain, from_plain

if TYPE_CHECKING:
    from mlflow import MlflowClient

UNDELIVERED = "undelivered"
SEND_S = 1.0
# After a failure the pause doubles, up to this.
LONGEST_PAUSE_S = 30.0
LAST_PAUSE_S = 1.0


def patience_s() -> float:
    """How long the end of a training waits for a store that is away."""
    return float(os.environ.get("GAIT_MLFLOW_PATIENCE_S", "30"))


class Delivery:
    """Sends one training's record to the store, and sends again what did not arrive.

    Raises:
        GaitError: the store cannot be used from the start.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, training: Training) -> None:
        self._runs = ModelRuns(client, experiment_id)
        self._lock = threading.Lock()
        self._waiting: Training | None = None
        self._closing = threading.Event()
        self.problem: str | None = None
        with explained():
            self._runs.bring(training)
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, training: Training) -> None:
        """To be sent as soon as possible; replaces what was waiting of the same training."""
        with self._lock:
            self._waiting = training

    def close(self, training: Training, patience: float) -> bool:
        """Sends the last of it, for so many seconds at most; true if the store has everything."""
        self.put(training)
        self._closing.set()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _work(self) -> None:
        pause = SEND_S
        while True:
            closing = self._closing.wait(pause)
            with self._lock:
                training = self._waiting
            try:
                if training is not None:
                    self._runs.bring(training)
            except store_errors() as error:
                self._runs.forget()
                self._fails(error)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                if closing:
                    time.sleep(LAST_PAUSE_S)
                continue
            if self.problem is not None:
                self.problem = None
                print("MLflow can be written again", file=sys.stderr)
            pause = SEND_S
            with self._lock:
                if self._waiting is training:
                    self._waiting = None
                    if closing:
                        return

    def _fails(self, error: Exception) -> None:
        before, self.problem = self.problem, sentence(error)
        if before is None:
            print(
                f"MLflow at {without_password(tracking_uri())} cannot be written"
                f" ({self.problem}); training goes on, and what is missing is sent again",
                file=sys.stderr,
            )


def keep(folder: Path, training: Training) -> Path:
    """Keeps a record that MLflow did not take, for ``deliver_kept``."""
    path = folder / UNDELIVERED / f"{training.id}.json"
    write_json(path, as_plain(training))
    return path


def deliver_kept(states: Path) -> None:
    """Brings every record kept below a folder to MLflow.

    Raises:
        GaitError: the store cannot be used, or a file is no record.
    """
    paths = sorted(states.glob(f"**/{UNDELIVERED}/*.json"))
    if not paths:
        return
    with FileLock(states / ".delivery.lock"):
        for path in paths:
            # Another process may have delivered it while this one waited.
            if path.exists():
                _deliver_kept(path)


def _deliver_kept(path: Path) -> None:
    try:
        training = from_plain(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GaitError(f"{path} is no record of a training ({error}); delete it") from None
    client, experiment_id = open_experiment(training.experiment)
    with explained():
        ModelRuns(client, experiment_id).bring(training)
    path.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()
