"""A signal ends the work, also one that comes where Python drops what is raised."""

from __future__ import annotations

import gc
import signal
import sys
import weakref
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """A shell has what it starts in the background ignore SIGINT, and that is left so."""
    before = {each: signal.getsignal(each) for each in interruption.STOPPING}
    for each in before:
        signal.signal(each, signal.SIG_DFL)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", interruption.STOPPING)
def test_a_signal(number: int) -> None:
    with pytest.raises(Interrupted) as caught, interruptible():
        signal.raise_signal(number)
    assert caught.value.exit_code == 128 + number


class Broken:
    """Something else that Python tells of, and drops."""

    def __del__(self) -> None:
        raise ValueError("broken")


def test_a_signal_that_was_dropped_is_heard_later(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: told.append(each.exc_value))
    with interruptible():
        interruption.check()
        drop_a_signal()
        with pytest.raises(Interrupted, match="SIGTERM"):
            interruption.check()
        Broken()
        gc.collect()
    interruption.check()
    assert [type(each) for each in told] == [ValueError]


def test_an_ignored_signal_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible():
        signal.raise_signal(signal.SIGINT)
        interruption.check()


def test_handlers_come_back() -> None:
    before = [signal.getsignal(each) for each in interruption.STOPPING]
    with pytest.raises(Interrupted), interruptible():
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(each) for each in interruption.STOPPING] == before
