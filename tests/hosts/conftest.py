"""Where there can be no hosts, one sentence says why, and the tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts import bed


@pytest.fixture(scope="session")
def wired() -> Iterator[bed.Bed]:
    """The hosts, on which nothing runs yet."""
    if (reason := bed.why_not()) is not None:
        pytest.skip(reason)
    with bed.wired() as made:
        yield made


@pytest.fixture(scope="session")
def hosts(wired: bed.Bed) -> bed.Bed:
    """With Ray, MLflow and PostgreSQL on them."""
    wired.start()
    return wired


WHY_NO_BAD_LINES = bed.why_not() or bed.why_no_bad_lines()
needs_netem = pytest.mark.skipif(WHY_NO_BAD_LINES is not None, reason=str(WHY_NO_BAD_LINES))
