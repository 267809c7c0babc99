"""A signal ends the work, also one that comes where Python drops what is raised."""

from __future__ import annotations

import gc
import signal
import sys
import weakref
from typing import Any

import pytest

from pipeline.project import interruption
from pipeline.project.interruption import Interrupted, interruptible


class Thing:
    """What a weak reference may refer to."""


def drop_a_signal(number: int = signal.SIGTERM) -> None:
    """Has it come within a weak reference's callback."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    gc.collect()
    assert reference() is None


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Python says that it drops."""
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: found.append(each.exc_value))
    return found


@pytest.mark.parametrize("number", interruption.STOPPING)
def test_a_signal(number: int) -> None:
    with pytest.raises(Interrupted) as caught, interruptible():
        signal.raise_signal(number)
    assert caught.value.exit_code == 128 + number


def test_a_signal_that_was_dropped_is_heard_later(dropped: list[Any]) -> None:
    with interruptible():
        interruption.check()
        drop_a_signal()
        assert len(dropped) == 1 and isinstance(dropped[0], Interrupted)
        with pytest.raises(Interrupted, match="SIGTERM"):
            interruption.check()
    interruption.check()


def test_handlers_come_back() -> None:
    before = [signal.getsignal(each) for each in interruption.STOPPING]
    with pytest.raises(Interrupted), interruptible():
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(each) for each in interruption.STOPPING] == before
