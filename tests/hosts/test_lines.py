"""Lines of hosts that are cut for seconds and minutes, or bad, while a sweep runs.

Each sweep ends as test_sweep_on_hosts.py says.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.hosts.bed import Host, wait_for
from tests.hosts.sweeps import Project, told

# The first one waits for the hosts, too.
pytestmark = pytest.mark.timeout(1500)

# What may be told if a host's line is cut, by a word that is in it.
TOLD = {"worker2": [], "mlflow": ["MLflow"], "driver": ["MLflow", "Ray cluster"]}


def cut(seconds: float, *hosts: Host) -> Callable[[], None]:
    def disturbance() -> None:
        for host in hosts:
            host.cut()
        time.sleep(seconds)
        for host in hosts:
            host.mend()

    return disturbance


def check_told(said: str, *names: str) -> None:
    """Of these hosts' lines nothing but what may be said; of MLflow's also how it ended."""
    allowed = [word for name in names for word in TOLD[name]]
    assert not [line for line in told(said) if not any(word in line for word in allowed)]
    if "mlflow" in names:
        assert "and what is missing is sent again" in said
        assert "MLflow can be written again" in said or "lacks some of them" in said


@pytest.mark.parametrize("name", ["worker2", "mlflow", "driver"])
def test_a_line_is_cut_twice(project: Project, undisturbed: bytes, name: str) -> None:
    host = getattr(project.bed, name)
    disturbances = cut(5, host), cut(30, host)
    said = project.disturbed(
        f"cut_{name}",
        *disturbances,
        after=project.bed.join_again,
        may_need_resume=name != "worker2",
    )
    check_told(said, name)
    assert project.trials_csv(f"cut_{name}") == undisturbed
    # Also where the head took the driver for dead as its line came back.
    wait_for("Ray to free all places", lambda: not project.bed.places())


@pytest.mark.parametrize("names", [("worker2", "mlflow"), ("driver",)])
def test_lines_are_cut_for_two_minutes(
    project: Project, undisturbed: bytes, names: tuple[str, ...]
) -> None:
    hosts, sweep = [getattr(project.bed, name) for name in names], f"cut_long_{names[0]}"
    # Not for the worker's sake.
    said = project.disturbed(
        sweep, cut(120, *hosts), after=project.bed.join_again, may_need_resume=True
    )
    check_told(said, *names)
    assert project.trials_csv(sweep) == undisturbed


def test_a_bad_line(project: Project, undisturbed: bytes) -> None:
    """A fifth of the frames is lost in each direction, and an answer takes 200 ms."""
    with project.bed.worker2.bad_line(seconds=0.1, loss=0.2):
        said = project.disturbed("bad_line", lambda: None)
    assert not told(said)
    project.bed.join_again()
    assert project.trials_csv("bad_line") == undisturbed
