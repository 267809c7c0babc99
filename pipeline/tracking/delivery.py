"""Sending a training to MLflow while it goes on, and later what could not be sent."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pipeline.project import environment
from pipeline.project.errors import GaitError
from pipeline.project.files import as_json, write_whole
from pipeline.tracking.model_runs import ModelRuns, abandon
from pipeline.tracking.sending import Sender
from pipeline.tracking.store import (
    existing_experiment,
    explained,
    named_store,
    open_experiment,
    twice,
)
from pipeline.training import resuming
from pipeline.training.training_record import Training, as_plain, from_plain

if TYPE_CHECKING:
    from mlflow import MlflowClient

UNDELIVERED = "undelivered"
# Where a record belongs, under this name.
_STORE = "store"
SEND_S = 1.0


def patience_s() -> float:
    """How long the end of a training waits for a store that is away."""
    return environment.seconds(environment.PATIENCE_S)


class Delivery:
    """Sends one training's record to the store, and sends again what did not arrive.

    GaitError if the store cannot be used from the start.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, training: Training) -> None:
        runs = ModelRuns(client, experiment_id)
        with explained():
            twice(lambda: runs.send(training), runs.forget)
        self._sender = Sender(runs.send, runs.forget, "training", _tell, SEND_S)

    @property
    def problem(self) -> str | None:
        """Why the store could not be written the last time; None if it could."""
        return self._sender.problem

    def put(self, training: Training) -> None:
        """To be sent as soon as possible; replaces what was waiting of the same training."""
        self._sender.put(training.id, training)

    def close(self, training: Training, patience: float) -> bool:
        """Sends the last of it, waiting for so many seconds; true if the store has everything."""
        self.put(training)
        return self._sender.close(patience)


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def keep(folder: Path, training: Training) -> Path:
    """Keeps a record that MLflow did not take, for ``deliver_kept``."""
    path = folder / UNDELIVERED / f"{training.id}.json"
    write_whole(path, as_json({**as_plain(training), _STORE: named_store()}))
    return path


def deliver_kept(states: Path) -> None:
    """Brings every record kept below a folder to MLflow; says which it does not take.

    One that cannot be delivered, now or ever, is no reason to keep others, or new work, waiting.
    """
    paths = sorted(states.glob(f"**/{UNDELIVERED}/*.json"))
    if not paths:
        return
    with FileLock(states / ".delivery.lock"):
        for path in paths:
            # Another process may have delivered it while this one waited.
            if not path.exists():
                continue
            try:
                _deliver_kept(path)
            except GaitError as error:
                _tell(
                    f"{error}; {path} is kept, and the next `gait train` tries again; delete it to"
                    " give it up"
                )


def end_abandoned(profile: str) -> None:
    """Ends the runs of trainings that were killed and that no process goes on with; says which.

    DVC may have their models from its cache, so that nothing ever trains them to their end.
    GaitError if the store cannot be used.
    """
    for key, folder in resuming.begun(profile):
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(resuming.held(key))
            except GaitError:
                continue  # It is being trained.
            training = resuming.training_id(folder)
            opened = existing_experiment(profile)
            if training is None or opened is None:
                continue
            with explained():
                ended = abandon(*opened, training)
        if ended:
            _tell(
                f"{key}: a training was broken off, and nothing goes on with it: its runs in MLflow"
                f" are KILLED now; `gait train {str(key).replace('/', ' ')}` would go on"
            )


def _deliver_kept(path: Path) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        meant = content.pop(_STORE, named_store())
        training = from_plain(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GaitError(f"{path} is no record of a training ({error})") from None
    if meant != named_store():
        was, now = (
            f"MLFLOW_TRACKING_URI={each}" if each else "no MLFLOW_TRACKING_URI"
            for each in (meant, named_store())
        )
        raise GaitError(
            f"{training.name}: a record was kept with {was}, and there is {now} now: set it as it"
            f" was, or, to have the runs in this store, take {_STORE!r} out of the file"
        )
    client, experiment_id = open_experiment(training.experiment)
    with explained():
        ModelRuns(client, experiment_id).send(training)
    path.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()
