"""A thread that sends records to the MLflow store, and again what did not arrive.

A store that hangs or is away costs the work no time and no figures.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.project.redaction import shown
from pipeline.tracking.store import sentence, tracking_uri

# After a failure the pause doubles, up to this.
LONGEST_PAUSE_S = 30.0
LAST_PAUSE_S = 1.0

Record = TypeVar("Record")


class Sender(Generic[Record]):
    """Sends the newest record of each name.

    Args:
        send: makes the store what a record says; may be given the same one again.
        forget: called after a failure, when nobody knows what arrived.
        work: what goes on meanwhile, for the sentence that says so.
        tell: is given a sentence when the store cannot be written, and one when it can again.
        interval_s: between two looks at what there is to send.

    Attributes:
        problem: why the store could not be written the last time, or lacks something once closed;
            None if it could.
    """

    def __init__(
        self,
        send: Callable[[Record], None],
        forget: Callable[[], None],
        work: str,
        tell: Callable[[str], None],
        interval_s: float,
    ) -> None:
        self._send_record, self._forget = send, forget
        self._doing, self._tell = work, tell
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._waiting: dict[str, Record] = {}
        self._arrived = 0
        self._complete = False
        self._closing = threading.Event()
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, name: str, record: Record) -> None:
        """To be sent as soon as possible, in the place of what was waiting under that name."""
        with self._lock:
            self._waiting[name] = record

    def close(self, patience_s: float, longest_s: float = math.inf) -> bool:
        """Sends what is left; true if the store now has everything.

        It is waited for as long as something arrives every so many seconds: a store may be slow.
        But no longer than ``longest_s`` in all.
        """
        self._closing.set()
        arrived, until = -1, time.monotonic() + longest_s
        while self._thread.is_alive() and self._arrived > arrived and time.monotonic() < until:
            arrived = self._arrived
            self._thread.join(min(patience_s, until - time.monotonic()))
        if not self._complete and self.problem is None:
            self.problem = f"nothing arrived there within {patience_s:g} s"
        return self._complete

    def _work(self) -> None:
        pause = self._interval_s
        while True:
            closing, before = self._closing.wait(pause), self._arrived
            try:
                self._send()
            except Exception as error:
                # Not the store's own errors alone: a client that lacks a package, a figure that
                # cannot be drawn. Whatever it is, the record has not arrived.
                self._forget()
                some = self._arrived > before
                self._fails(error, "does not take everything" if some else "cannot be written")
                pause = pause if some else min(2 * pause, LONGEST_PAUSE_S)
                if closing:
                    time.sleep(LAST_PAUSE_S)
                continue
            if self.problem is not None:
                self.problem = None
                self._tell("MLflow can be written again")
            pause = self._interval_s
            if closing:
                self._complete = True
                return

    def _send(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                name, record = next(iter(self._waiting.items()))
            try:
                self._send_record(record)
            except Exception:
                # It may be this one alone that the store never takes: the others come first.
                with self._lock:
                    self._waiting[name] = self._waiting.pop(name)
                raise
            self._arrived += 1
            with self._lock:
                if self._waiting[name] is record:
                    del self._waiting[name]

    def _fails(self, error: Exception, how: str) -> None:
        before, self.problem = self.problem, sentence(error)
        if before is None:
            self._tell(
                f"MLflow at {shown(tracking_uri())} {how}"
                f" ({self.problem}); {self._doing} goes on, and what is missing is sent again"
            )
