"""Signals as an exception, so that work can be saved before the process ends."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# The last comes when a terminal is closed, or its line lost.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# The signal that came within ``interruptible``.
_came: int | None = None


class Interrupted(BaseException):
    """A signal came. Not an ``Exception``: nothing on the way may take it for its own failure."""

    def __init__(self, number: int, message: str | None = None) -> None:
        self.number = number
        self.name = signal.Signals(number).name
        super().__init__(message or f"stopped by {self.name}")

    @property
    def exit_code(self) -> int:
        """What shells say of a program that a signal ended: 143, 130 or 129."""
        return 128 + self.number


def check() -> None:
    """Raises ``Interrupted`` for a signal that came and was not heard.

    Python drops what is raised while a weak reference's callback runs, as it does within imports.
    """
    if _came is not None:
        raise Interrupted(_came)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block the first signal raises ``Interrupted``; later ones do not disturb it.

    Long work calls ``check`` now and then. Signals that whoever started this process had it ignore
    are left so.
    """
    global _came
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = {each: signal.getsignal(each) for each in STOPPING}, sys.unraisablehook

    def stop(number: int, _frame: FrameType | None) -> None:
        global _came
        _came = number
        for each in STOPPING:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    def tell(dropped: sys.UnraisableHookArgs) -> None:
        # Heard by ``check``: nobody needs a traceback of it.
        if not isinstance(dropped.exc_value, Interrupted):
            hook(dropped)

    sys.unraisablehook = tell
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, stop)
    try:
        yield
    finally:
        _came, sys.unraisablehook = None, hook
        for each, handler in before.items():
            signal.signal(each, handler)
