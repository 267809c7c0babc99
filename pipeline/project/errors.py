"""The one exception that a user is meant to read, and what others say, made readable."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class GaitError(Exception):
    """Something the user can put right: one clear sentence, no traceback, exit code 2."""


def os_sentence(error: OSError) -> str:
    """What the system says is wrong, and with which file."""
    what = error.strerror or str(error) or type(error).__name__
    return f"{what}: {error.filename}" if error.filename is not None else what


@contextlib.contextmanager
def explained_os_error(action: str, advice: str) -> Iterator[None]:
    """Turns an OSError into one sentence: what could not be done, why, and what helps."""
    try:
        yield
    except OSError as error:
        raise GaitError(f"Cannot {action} ({error.strerror or error}): {advice}.") from error
