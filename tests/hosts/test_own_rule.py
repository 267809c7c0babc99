"""A sweep over fields of the architecture and a setting of a rule whose package the hosts have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas
import pytest

from tests.cluster.test_sweep_on_a_cluster import WAITING_S
from tests.hosts.bed import Bed
from tests.hosts.sweeps import Project
from tests.pipeline.project_copy import REPOSITORY

# The first one waits for the hosts, too.
pytestmark = pytest.mark.timeout(1500)

RULES = "\nrules:\n"
OWN = "  weight_mirror: {learning_rate: 0.001, orthogonality: 0.1, feedback_learning_rate: 0.01}\n"
SPACE = {
    "rule.decay": [0.5, 1.0],
    "architecture.hidden_layers": [1, 3],
    "architecture.activation": ["leaky_relu", "linear"],
}
SECTION = f"""
sweep:
  name: NAME
  rules: [weight_mirror]
  space: {json.dumps(SPACE)}
  fixed: {{training.epochs: 2, training.seeds: [0, 1]}}
"""


class WithOwnRule(Project):
    """One whose params.yaml has the rule of the package in examples/own_rule."""

    def define(self, name: str, section: str = SECTION) -> None:
        super().define(name, section)
        path = self.folder / "params.yaml"
        before, after = path.read_text().split(RULES)
        path.write_text(before + RULES + OWN + after)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "own_rule"
    return shutil.copytree(REPOSITORY / "examples" / "own_rule", folder)


@pytest.fixture(scope="module")
def own(hosts: Bed, package: Path) -> WithOwnRule:
    """Of a driver that has the package."""
    hosts.driver.install(package)
    return WithOwnRule(hosts, "own_rule")


def sweep(own: WithOwnRule, *arguments: str) -> tuple[int, str]:
    with own.sweep("own", *arguments, section=SECTION) as process:
        output, _ = process.communicate(timeout=WAITING_S)
    return process.returncode, " ".join(output.split())


def test_workers_without_the_package_or_with_another_are_named(
    own: WithOwnRule, package: Path, tmp_path: Path
) -> None:
    """Before any work begins."""
    other = shutil.copytree(package, tmp_path / "own_rule") / "weight_mirror.py"
    other.write_text(other.read_text() + "\nOTHER = True\n")
    own.bed.worker1.install(other.parent)
    code, said = sweep(own)
    assert code == 2, said
    assert "Traceback" not in said
    unlike = re.findall(r"(worker\d) \(the rule weight_mirror (.*?), here of own-rule with", said)
    unlike = {worker: what.split()[0] for worker, what in unlike}
    assert unlike == {"worker1": "of", "worker2": "not"}, said
    assert not own.results("own").exists()


def test_with_the_package_everywhere_it_ends_as_on_one_machine(
    own: WithOwnRule, package: Path
) -> None:
    own.bed.worker1.install(package)
    own.bed.worker2.install(package)
    code, said = sweep(own)
    assert code == 0, said
    table = pandas.read_csv(own.results("own") / "trials.csv")
    assert len(table) == 8
    assert set(table["status"]) == {"FINISHED"}
    assert {name: sorted(set(table[name])) for name in SPACE} == SPACE
    runs = {run.data.tags["gait.trial"]: run for run in own.runs("own")}
    for row in table.to_dict("records"):
        params = runs[row["trial"]].data.params
        assert {name: params[name] for name in SPACE} == {n: str(row[n]) for n in SPACE}
    trials = own.trials_csv("own")
    alone = subprocess.run(
        own.gait("sweep", "--restart"),
        env=own.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert own.trials_csv("own") == trials
