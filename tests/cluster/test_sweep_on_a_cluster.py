"""A sweep of 24 trials on three Ray nodes and an MLflow server, undisturbed and disturbed.

Whatever is killed on the way, each sweep ends with the same 24 trials, the same table to the byte,
and 24 runs with the right parameters and complete histories. `make test-cluster` runs this.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas
import pytest
from mlflow import MlflowClient

from tests.cluster.nodes import Cluster, Server, ray_environment, running
from tests.pipeline.project_copy import small_params

EPOCHS, TRIALS = 5, 24
SECTION = f"""
sweep:
  name: NAME
  rules: [bp, gait]
  space:
    rule.learning_rate: [1.0e-4, 1.0e-3, 1.0e-2]
    rule.orthogonality: [0.0, 0.01, 0.1, 1.0]
  fixed: {{training.epochs: {EPOCHS}, training.seeds: [0, 1, 2]}}
"""
# A trial of each rule.
FEW = """
sweep:
  name: NAME
  rules: [bp, gait]
  space: {rule.learning_rate: [1.0e-3]}
  fixed: {training.epochs: 1, training.seeds: [0]}
"""
# Two trials, which last for a while.
LONG_EPOCHS = 150
LONG = f"""
sweep:
  name: NAME
  rules: [gait]
  space: {{rule.learning_rate: [1.0e-4, 1.0e-3]}}
  fixed: {{training.epochs: {LONG_EPOCHS}, training.seeds: [0, 1, 2]}}
"""
WAITING_S = 400
OUTAGE_S = 20


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Cluster, Server]]:
    with running() as both:
        yield both


class Project:
    """A folder with params alone, whose sweeps run on the cluster."""

    def __init__(self, folder: Path, cluster: Cluster, server: Server) -> None:
        self.folder, self.cluster, self.server = folder, cluster, server
        self.store = MlflowClient(server.address)

    @contextmanager
    def sweep(
        self, name: str, *arguments: str, section: str = SECTION, **more: str
    ) -> Iterator[subprocess.Popen[str]]:
        """`gait sweep` as a process, killed if it outlives the block; ``more`` environment."""
        text = small_params()
        section = section.replace("NAME", name)
        (self.folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + section)
        command = [sys.executable, "-m", "pipeline", "sweep"]
        command += ["--address", self.cluster.address, *arguments]
        environment = {
            **ray_environment(self.cluster.folder),
            "MLFLOW_TRACKING_URI": self.server.address,
            "PYTHONUNBUFFERED": "1",
            **more,
        }
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def trials_csv(self, name: str) -> bytes:
        return (self.results(name) / "trials.csv").read_bytes()

    def results(self, name: str) -> Path:
        return self.folder / "results" / "digits" / "sweep" / name

    def check(self, name: str, output: str, code: int) -> None:
        """The sweep's results and its runs are complete, and nothing is there twice."""
        assert code == 0, output
        assert "Traceback" not in output
        assert f"{TRIALS} trials have ended" in output
        table = pandas.read_csv(self.results(name) / "trials.csv").set_index("trial")
        assert len(table) == TRIALS
        assert set(table["status"]) == {"FINISHED"}
        ids = pandas.read_csv(self.results(name) / "runs.csv").set_index("trial")["mlflow_run_id"]
        experiment = self.store.get_experiment_by_name("digits-sweeps")
        assert experiment is not None
        found = self.store.search_runs([experiment.experiment_id], max_results=5000)
        (parent,) = (run for run in found if run.info.run_name == name)
        assert parent.info.status == "FINISHED"
        nested = [
            run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
        ]
        assert len(nested) == TRIALS
        assert {run.data.tags["gait.trial"]: run.info.run_id for run in nested} == dict(ids)
        for run in nested:
            row = table.loc[run.data.tags["gait.trial"]]
            assert run.info.status == "FINISHED"
            assert run.data.params["rule"] == row["rule"]
            assert float(run.data.params["rule.learning_rate"]) == row["rule.learning_rate"]
            assert float(run.data.params["rule.orthogonality"]) == row["rule.orthogonality"]
            assert run.data.params["training.epochs"] == str(EPOCHS)
            assert run.data.metrics["validation_accuracy"] == row["validation_accuracy_mean"]
            for metric, first in (("validation_accuracy", 0), ("train_loss", 1)):
                history = self.store.get_metric_history(run.info.run_id, metric)
                history = sorted(history, key=lambda each: each.step)
                assert [each.step for each in history] == list(range(first, EPOCHS + 1))
                times = [run.info.start_time, *(each.timestamp for each in history)]
                assert [*times, run.info.end_time] == sorted([*times, run.info.end_time])


@pytest.fixture(scope="module")
def project(machines: tuple[Cluster, Server], tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"), *machines)


@pytest.fixture(scope="module")
def undisturbed(project: Project) -> bytes:
    """trials.csv of a sweep to which nothing happened."""
    with project.sweep("undisturbed") as process:
        output, _ = process.communicate(timeout=WAITING_S)
    project.check("undisturbed", output, process.returncode)
    return project.trials_csv("undisturbed")


def until(process: subprocess.Popen[str], ended: int, of: int = TRIALS) -> str:
    """Reads what the sweep says until so many trials have ended."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if f"({ended} of {of})" in line:
            return "".join(lines)
    raise AssertionError(f"the sweep ended early:\n{''.join(lines)}")


def disturb(project: Project, name: str, ended: int, disturbance: Callable[[], None]) -> str:
    """A sweep to which something happens once so many of its trials have ended."""
    with project.sweep(name, "--storage", str(project.folder / "shared")) as process:
        output = until(process, ended)
        disturbance()
        rest, _ = process.communicate(timeout=WAITING_S)
    project.check(name, output + rest, process.returncode)
    return output + rest


def test_undisturbed(undisturbed: bytes) -> None:
    assert undisturbed.count(b"FINISHED") == TRIALS


@pytest.mark.parametrize("number", range(3))
def test_trials_run_on_every_node(project: Project, number: int) -> None:
    """Wherever there is room: the other nodes have none, so that no speed decides it."""
    name = f"node_{number}"
    with (
        project.cluster.room_on_one_node(number) as free,
        project.sweep(name, section=FEW) as process,
    ):
        output, _ = process.communicate(timeout=WAITING_S)
    assert process.returncode == 0, output
    experiment = project.store.get_experiment_by_name("digits-sweeps")
    assert experiment is not None
    found = project.store.search_runs([experiment.experiment_id], max_results=5000)
    (parent,) = (run for run in found if run.info.run_name == name)
    nested = [r for r in found if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert [run.data.tags["node"] for run in nested] == [free] * 2


def test_a_lost_node(project: Project, undisturbed: bytes) -> None:
    disturb(project, "lost_node", 6, project.cluster.nodes[-1].kill)
    project.cluster.add()
    assert project.trials_csv("lost_node") == undisturbed


def test_a_killed_worker(project: Project, undisturbed: bytes) -> None:
    def kill_one() -> None:
        deadline = time.monotonic() + WAITING_S
        while not (workers := [w for n in project.cluster.nodes for w in n.trial_workers()]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        workers[0].send_signal(signal.SIGKILL)

    disturb(project, "killed_worker", 6, kill_one)
    assert project.trials_csv("killed_worker") == undisturbed


def test_trials_of_killed_workers_go_on_from_their_last_states(project: Project) -> None:
    """What had been computed keeps its times: of a trial that begins anew all are later."""
    shared, name = project.folder / "shared", "from_states"
    folder = shared / "digits" / name
    often = {"section": LONG, "GAIT_STATE_INTERVAL_S": "1"}
    with project.sweep(name, "--storage", str(shared), **often) as process:
        while len(list(folder.glob("states/*.pt"))) < 2:
            assert process.poll() is None, "the sweep ended without two states"
            time.sleep(0.1)
        workers = [w for n in project.cluster.nodes for w in n.trial_workers()]
        killed_ms = time.time() * 1000
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=WAITING_S)
    assert process.returncode == 0, output
    records = [json.loads(path.read_text()) for path in folder.glob("trials/*.json")]
    assert len(workers) == len(records) == 2
    for record in records:
        ended_ms = [epoch["ended_ms"] for epoch in record["epochs"]]
        assert len(ended_ms) == 1 + LONG_EPOCHS
        assert ended_ms[0] < killed_ms < ended_ms[-1]


def test_a_server_that_is_away(project: Project, undisturbed: bytes) -> None:
    def outage() -> None:
        project.server.stop()
        time.sleep(OUTAGE_S)
        project.server.start()

    output = disturb(project, "outage", 6, outage)
    assert output.count("what is missing is sent again") == 1
    assert output.count("MLflow can be written again") == 1
    assert project.trials_csv("outage") == undisturbed


def test_a_killed_driver(project: Project, undisturbed: bytes) -> None:
    with project.sweep("killed_driver") as process:
        until(process, 8)
        process.send_signal(signal.SIGKILL)
        process.wait(WAITING_S)
    kept = project.folder / "sweeps" / "digits" / "killed_driver" / "trials"
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    assert 8 <= len(before) < TRIALS
    with project.sweep("killed_driver", "--resume") as process:
        output, _ = process.communicate(timeout=WAITING_S)
    project.check("killed_driver", output, process.returncode)
    assert output.count("validation accuracy") == TRIALS - len(before)
    assert {name: (kept / name).stat().st_mtime_ns for name in before} == before
    assert project.trials_csv("killed_driver") == undisturbed


def test_a_server_that_does_not_come_back(project: Project, undisturbed: bytes) -> None:
    """The results are there all the same; `--resume` delivers what MLflow lacks."""
    with project.sweep("undelivered") as process:
        output = until(process, 18)
        project.server.stop()
        try:
            output += process.communicate(timeout=WAITING_S)[0]
        finally:
            project.server.start()
    assert process.returncode == 1, output
    assert "lacks some of them" in output
    assert f"`gait sweep --resume --address {project.cluster.address}` delivers them" in output
    assert project.trials_csv("undelivered") == undisturbed
    with project.sweep("undelivered", "--resume") as process:
        output, _ = process.communicate(timeout=WAITING_S)
    project.check("undelivered", output, process.returncode)
    assert "validation accuracy" not in output
