"""Where there can be no hosts, one sentence says why, and the tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.test_sweep_on_a_cluster import WAITING_S
from tests.hosts import bed
from tests.hosts.sweeps import Project


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


@pytest.fixture(scope="session")
def project(hosts: bed.Bed) -> Project:
    """Of the driver's host."""
    return Project(hosts, "project")


@pytest.fixture(scope="session")
def undisturbed(project: Project) -> bytes:
    """trials.csv of a sweep to which nothing happened."""
    with project.sweep("undisturbed") as process:
        output, _ = process.communicate(timeout=WAITING_S)
    project.check("undisturbed", output, process.returncode)
    return project.trials_csv("undisturbed")
