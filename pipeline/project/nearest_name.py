"""What to say of a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(received: str, allowed: Iterable[str]) -> str:
    """`` (did you mean 'mnist'?)``, or nothing where no allowed name is near."""
    near = difflib.get_close_matches(received.lower(), list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
