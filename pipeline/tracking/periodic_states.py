"""Saves the states of a training that goes on, and tells MLflow what no kill can undo any more."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pipeline.project import environment
from pipeline.project.errors import os_sentence
from pipeline.tracking.delivery import Delivery
from pipeline.training import resuming
from pipeline.training.epochs import KILLED
from pipeline.training.training_loop import Point
from pipeline.training.training_record import Training, ended

# A process that was told to stop is killed soon: so long it may try to tell MLflow.
LAST_WORDS_S = 5.0
# Writing states takes no more than this share of the time, however long the record has become.
WRITING_SHARE = 0.05


class StateWriter:
    """Saves a state of a training every so often, and puts the record of it into the sending.

    Figures go to MLflow only together with a state on the disk: after a kill they are trained
    again and would have other times.
    """

    def __init__(
        self, training: Training, identity: dict[str, str], place: Path, sending: Delivery
    ) -> None:
        self._saved, self._identity = training, identity
        self._place, self._sending = place, sending
        self._due = time.monotonic() + environment.seconds(environment.STATE_INTERVAL_S)
        self._complained = False

    def save_if_due(self, point: Point) -> None:
        """Saves the point if it is time to; a disk that does not take it is no reason to stop."""
        began = time.monotonic()
        # The last one is always saved: the end is sent to MLflow, and a kill meanwhile must not
        # have epochs trained again that are there already.
        if began < self._due and not point.last:
            return
        try:
            self._save(point)
            self._sending.put(self._saved)
        except OSError as error:
            if not self._complained:
                self._complained = True
                print(
                    f"{self._saved.name}: no state can be saved ({os_sentence(error)}); training"
                    " goes on without, and tries again",
                    file=sys.stderr,
                )
        now = time.monotonic()
        self._due = now + max(
            environment.seconds(environment.STATE_INTERVAL_S), (now - began) / WRITING_SHARE
        )

    def save_last(self, point: Point | None, outcome: dict[str, str]) -> str:
        """Saves the last point before the process ends; says how to go on."""
        how = "the same command goes on from there"
        try:
            if point is not None:
                self._save(point)
        except OSError as error:
            how = (
                f"that could not be saved ({os_sentence(error)}): the same command goes on from"
                " the last state, if there is one"
            )
        self._sending.close(ended(self._saved, KILLED, outcome), LAST_WORDS_S)
        return how

    def _save(self, point: Point) -> None:
        # Epoch 0 is where training starts anyway.
        if point.state["epoch"]:
            self._saved = resuming.save(self._place, self._identity, point.training, point.state)
