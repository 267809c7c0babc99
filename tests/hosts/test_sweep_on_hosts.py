"""The sweep of 24 trials of tests/cluster, on hosts with addresses and lines of their own.

Whatever is cut, spoiled, filled or switched off on the way, each sweep ends with every trial once,
complete runs in MLflow with their times in order, and the same table to the byte. `make test-hosts`
runs this, as root.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.test_sweep_on_a_cluster import (
    FEW,
    LONG,
    LONG_EPOCHS,
    TRIALS,
    WAITING_S,
    until,
)
from tests.hosts.bed import wait_for
from tests.hosts.sweeps import Project, told

# The first one waits for the hosts, too.
pytestmark = pytest.mark.timeout(1500)


def test_undisturbed(undisturbed: bytes) -> None:
    assert undisturbed.count(b"FINISHED") == TRIALS


def test_postgres_is_started_again(project: Project, undisturbed: bytes) -> None:
    def restart() -> None:
        wait_for("early results in MLflow", lambda: bool(project.tags("postgres", "gait.trial")))
        project.bed.stop_postgres()
        # The driver sends every few seconds: of a quicker start it might hear nothing.
        time.sleep(10)
        project.bed.start_postgres()

    said = project.disturbed("postgres", restart)
    assert "and what is missing is sent again" in said
    assert "MLflow can be written again" in said
    assert project.trials_csv("postgres") == undisturbed


def test_the_disk_of_postgres_is_full(project: Project, undisturbed: bytes) -> None:
    def fill() -> None:
        with project.bed.database_disk_full():
            time.sleep(20)

    said = project.disturbed("disk_full", fill)
    # If it fills while several runs are sent, MLflow is said not to take everything; else, not
    # to be writable. This follows in both.
    assert "and what is missing is sent again" in said
    assert "MLflow can be written again" in said
    assert project.trials_csv("disk_full") == undisturbed


def test_a_worker_loses_power(project: Project, undisturbed: bytes) -> None:
    bed = project.bed
    said = project.disturbed("power", bed.worker2.power_off)
    assert not told(said)
    bed.worker2.power_on()
    bed.join(bed.worker2)
    bed.wait_for_nodes(4)
    assert project.trials_csv("power") == undisturbed


def test_a_trial_of_a_worker_that_loses_power_goes_on_from_its_last_state(project: Project) -> None:
    """On the other one; what had been computed keeps its times."""
    bed, folder = project.bed, project.folder / "sweeps" / "digits" / "power_states"
    with project.sweep("power_states", section=LONG, GAIT_STATE_INTERVAL_S="1") as process:
        wait_for("the states of both trials", lambda: len(list(folder.glob("states/*.pt"))) == 2)
        lost_ms = time.time() * 1000
        bed.worker2.power_off()
        output, _ = process.communicate(timeout=WAITING_S)
    bed.worker2.power_on()
    bed.join(bed.worker2)
    bed.wait_for_nodes(4)
    assert process.returncode == 0, output
    assert not told(output)
    assert project.tags("power_states", "host") == ["worker1"] * 2
    records = [json.loads(path.read_text()) for path in folder.glob("trials/*.json")]
    assert len(records) == 2
    for record in records:
        ended_ms = [epoch["ended_ms"] for epoch in record["epochs"]]
        assert len(ended_ms) == 1 + LONG_EPOCHS
        assert ended_ms[0] < lost_ms < ended_ms[-1]


def test_a_worker_whose_clock_is_an_hour_off(project: Project) -> None:
    """It is the only one; what it says is put into order by the driver's clock."""
    bed = project.bed
    for host in (bed.worker1, bed.worker2):
        bed.stop(host)
    bed.join(bed.worker2, clock="+3600")
    bed.wait_for_nodes(3)
    with project.sweep("clock", section=FEW) as process:
        output, _ = process.communicate(timeout=WAITING_S)
    bed.stop(bed.worker2)
    for host in (bed.worker1, bed.worker2):
        bed.join(host)
    bed.wait_for_nodes(4)
    assert process.returncode == 0, output
    assert not told(output)
    assert project.tags("clock", "host") == ["worker2"] * 2
    for run in project.runs("clock"):
        history = project.store.get_metric_history(run.info.run_id, "train_loss")
        history += project.store.get_metric_history(run.info.run_id, "validation_accuracy")
        assert history
        for each in history:
            assert run.info.start_time <= each.timestamp <= run.info.end_time


def test_states_reach_the_driver_without_a_shared_folder(project: Project) -> None:
    """Its end takes the workers', and what they have on their disks, along."""
    often = {"section": LONG, "GAIT_STATE_INTERVAL_S": "1"}
    folder = project.folder / "sweeps" / "digits" / "states"
    with project.sweep("states", **often) as process:
        wait_for("the states of both trials", lambda: len(list(folder.glob("states/*.pt"))) == 2)
        # Of that host's processes, which are all that it sees.
        project.bed.driver.run("pkill", "-KILL", "-f", "pipeline sweep")
        process.wait(WAITING_S)
    assert not list(folder.glob("trials/*.json"))
    with project.sweep("states", "--resume", **often) as process:
        output, _ = process.communicate(timeout=WAITING_S)
    assert process.returncode == 0, output
    records = [json.loads(path.read_text()) for path in folder.glob("trials/*.json")]
    assert len(records) == 2
    for record in records:
        # Epochs from before the trial's new start have its time: they were not trained again.
        before = [each for each in record["epochs"] if each["ended_ms"] == record["started_ms"]]
        assert before and len(record["epochs"]) == 1 + LONG_EPOCHS


def test_the_head_loses_power(project: Project, undisturbed: bytes) -> None:
    bed = project.bed
    with project.sweep("head") as process:
        until(process, 6)
        bed.head.power_off()
        output, _ = process.communicate(timeout=WAITING_S)
    assert process.returncode == 1, output
    assert f"`gait sweep --resume --address {bed.address}` goes on" in output
    bed.head.power_on()
    bed.start_head()
    for host in (bed.worker1, bed.worker2, bed.driver):
        bed.stop(host)
        bed.join(host)
    bed.wait_for_nodes(4)
    project.resumed("head")
    assert project.trials_csv("head") == undisturbed
