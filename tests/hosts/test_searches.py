"""Searches whose driver is killed: resumed, each rule has as many trials as it was to have."""

from __future__ import annotations

import pandas
import pytest

from tests.cluster.test_sweep_on_a_cluster import WAITING_S, until
from tests.hosts.sweeps import Project

# The first one waits for the hosts, too.
pytestmark = pytest.mark.timeout(1500)

SECTION = """
sweep:
  name: NAME
  rules: [bp, gait]
  space: {rule.learning_rate: SPACE}
  fixed: {training.epochs: 4, training.seeds: [0]}
"""
RATES = [1.0e-5, 3.0e-5, 1.0e-4, 3.0e-4, 1.0e-3, 3.0e-3]
GRID = SECTION.replace("SPACE", str(RATES))
DRAWN = SECTION.replace("SPACE", "{loguniform: [1.0e-5, 1.0e-2]}")
SEARCHES = {
    "random": DRAWN + "  search: random\n  trials: 6\n",
    "optuna": DRAWN + "  search: optuna\n  trials: 6\n",
    "asha": GRID + "  early_stopping: asha\n",
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_killed_search_is_resumed(project: Project, name: str) -> None:
    with project.sweep(name, section=SEARCHES[name]) as process:
        until(process, 3, of=12)
        # Of that host's processes, which are all that it sees.
        project.bed.driver.run("pkill", "-KILL", "-f", "pipeline sweep")
        process.wait(WAITING_S)
    kept = project.folder / "sweeps" / "digits" / name / "trials"
    before = {path.name: path.read_bytes() for path in kept.glob("*.json")}
    assert 3 <= len(before) < 12
    with project.sweep(name, "--resume", section=SEARCHES[name]) as process:
        output, _ = process.communicate(timeout=WAITING_S)
    assert process.returncode == 0, output
    assert {each: (kept / each).read_bytes() for each in before} == before
    table = pandas.read_csv(project.results(name) / "trials.csv")
    assert dict(table["rule"].value_counts()) == {"bp": 6, "gait": 6}
    ended = {rule: set(rows["status"]) for rule, rows in table.groupby("rule")}
    stopped = {"STOPPED"} if name == "asha" else set()
    assert all({"FINISHED"} <= each <= {"FINISHED"} | stopped for each in ended.values()), ended
    assert sorted(project.tags(name, "gait.trial")) == sorted(table["trial"])


def test_a_long_list_of_values(project: Project) -> None:
    """PostgreSQL takes no tag of more than 8,000 characters, where SQLite takes any."""
    rates = [round(1e-4 + k * 1e-6, 6) for k in range(1000)]
    section = SECTION.replace("SPACE", str(rates)).replace("[bp, gait]", "[bp]")
    assert len(str(rates)) > 8000
    with project.sweep("long", section=f"{section}  search: random\n  trials: 1\n") as process:
        output, _ = process.communicate(timeout=WAITING_S)
    assert process.returncode == 0, output
    assert len(project.tags("long", "gait.trial")) == 1
