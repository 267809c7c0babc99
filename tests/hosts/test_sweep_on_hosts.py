"""The sweep of 24 trials of tests/cluster, on hosts with addresses and lines of their own.

Whatever is cut, spoiled or switched off on the way, each sweep ends with every trial once, complete
runs in MLflow and the same table to the byte, or is refused before it begins. `make test-hosts`
runs this, as root.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest
from mlflow import MlflowClient

from tests.cluster.test_sweep_on_a_cluster import FEW, SECTION, TRIALS, WAITING_S, until
from tests.cluster.test_sweep_on_a_cluster import Project as OnOneMachine
from tests.hosts.bed import RAY_PORT, Bed, Host
from tests.hosts.conftest import needs_netem
from tests.pipeline.project_copy import small_params

# The first one waits for the hosts, too.
pytestmark = pytest.mark.timeout(1500)


class Project(OnOneMachine):
    """A folder of the driver's host, whose sweeps run on the others."""

    def __init__(self, bed: Bed) -> None:
        self.bed, self.folder = bed, bed.driver.tmp / "project"
        self.folder.mkdir()
        self.store = MlflowClient(bed.tracking)

    @contextmanager
    def sweep(
        self, name: str, *arguments: str, address: str = "", few: bool = False
    ) -> Iterator[subprocess.Popen[str]]:
        text = small_params()
        section = (FEW if few else SECTION).replace("NAME", name)
        (self.folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + section)
        with subprocess.Popen(
            self.gait("sweep", "--address", address or self.bed.address, *arguments),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def gait(self, *words: str) -> list[str]:
        """The words that run a command in the project's folder, on its host."""
        gait = [sys.executable, "-m", "pipeline", *words]
        return self.bed.driver.command(*gait, folder="/tmp/project")

    def environment(self, **more: str) -> dict[str, str]:
        return self.bed.driver.environment(MLFLOW_TRACKING_URI=self.bed.tracking, **more)

    def refused(self, name: str) -> str:
        """A sweep that is refused before it begins, and why."""
        with self.sweep(name, few=True) as process:
            output, _ = process.communicate(timeout=WAITING_S)
        assert process.returncode == 2, output
        assert "Traceback" not in output
        return " ".join(output.split())

    def disturbed(self, name: str, disturbance: Callable[[], None]) -> str:
        """A sweep to which something happens when a quarter of it is done, and what it said."""
        with self.sweep(name) as process:
            output = until(process, 6)
            disturbance()
            rest, _ = process.communicate(timeout=WAITING_S)
        output += rest
        if process.returncode == 1:
            # What is left is said, and how to go on.
            assert "`gait sweep --resume`" in output, output
            output += self.resumed(name)
        else:
            self.check(name, output, process.returncode)
        return output

    def resumed(self, name: str) -> str:
        with self.sweep(name, "--resume") as process:
            output, _ = process.communicate(timeout=WAITING_S)
        self.check(name, output, process.returncode)
        return output


@pytest.fixture(scope="module")
def project(hosts: Bed) -> Project:
    return Project(hosts)


@pytest.fixture(scope="module")
def undisturbed(project: Project) -> bytes:
    """trials.csv of a sweep to which nothing happened."""
    with project.sweep("undisturbed") as process:
        output, _ = process.communicate(timeout=WAITING_S)
    project.check("undisturbed", output, process.returncode)
    return project.trials_csv("undisturbed")


def cut_for(host: Host, seconds: float) -> Callable[[], None]:
    def disturbance() -> None:
        host.cut()
        time.sleep(seconds)
        host.mend()

    return disturbance


def test_undisturbed(undisturbed: bytes) -> None:
    assert undisturbed.count(b"FINISHED") == TRIALS


@pytest.mark.parametrize("seconds", [5, 30])
@pytest.mark.parametrize("name", ["worker2", "mlflow", "driver"])
def test_a_line_is_cut(project: Project, undisturbed: bytes, name: str, seconds: int) -> None:
    host = getattr(project.bed, name)
    project.disturbed(f"cut_{name}_{seconds}", cut_for(host, seconds))
    assert project.trials_csv(f"cut_{name}_{seconds}") == undisturbed


def test_postgres_is_started_again(project: Project, undisturbed: bytes) -> None:
    def restart() -> None:
        project.bed.stop_postgres()
        project.bed.start_postgres()

    project.disturbed("postgres", restart)
    assert project.trials_csv("postgres") == undisturbed


def test_a_worker_loses_power(project: Project, undisturbed: bytes) -> None:
    project.disturbed("power", project.bed.worker2.power_off)
    project.bed.worker2.power_on()
    project.bed.join(project.bed.worker2)
    project.bed.wait_for_nodes(4)
    assert project.trials_csv("power") == undisturbed


@needs_netem
def test_a_bad_line(project: Project, undisturbed: bytes) -> None:
    with project.bed.worker2.bad_line("loss", "20%", "delay", "200ms"):
        project.disturbed("bad_line", lambda: None)
    assert project.trials_csv("bad_line") == undisturbed


def test_the_head_loses_power(project: Project, undisturbed: bytes) -> None:
    with project.sweep("head") as process:
        until(process, 6)
        project.bed.head.power_off()
        output, _ = process.communicate(timeout=WAITING_S)
    assert process.returncode == 1, output
    assert "`gait sweep --resume` goes on" in output
    project.bed.head.power_on()
    project.bed.start_head()
    for host in (project.bed.worker1, project.bed.worker2, project.bed.driver):
        project.bed.stop(host)
        project.bed.join(host)
    project.bed.wait_for_nodes(4)
    project.resumed("head")
    assert project.trials_csv("head") == undisturbed


def test_a_node_of_other_versions_is_named(project: Project) -> None:
    """One whose numpy says that it is another: its files are another host's own."""
    metadata = next(Path(numpy.__file__).parents[1].glob("numpy-*.dist-info/METADATA"))
    other = project.bed.worker2.tmp / "METADATA"
    text = metadata.read_text().replace(f"Version: {numpy.__version__}", "Version: 1.0.0", 1)
    other.write_text(text)
    project.bed.stop(project.bed.worker2)
    project.bed.worker2.run("mount", "--bind", "/tmp/METADATA", str(metadata))
    try:
        project.bed.join(project.bed.worker2)
        project.bed.wait_for_nodes(4)
        said = project.refused("versions")
    finally:
        project.bed.stop(project.bed.worker2)
        project.bed.worker2.run("umount", str(metadata))
        project.bed.join(project.bed.worker2)
        project.bed.wait_for_nodes(4)
    assert f"worker2 (numpy 1.0.0, here {numpy.__version__})" in said
    assert not project.results("versions").exists()


def doctor(project: Project) -> tuple[int, str]:
    done = subprocess.run(
        project.gait("doctor", "--address", project.bed.address, "--json"),
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    (found,) = (each for each in json.loads(done.stdout) if each["name"] == "Ray cluster")
    return done.returncode, f"{found['found']}; {found['advice']}"


def test_doctor_names_the_port_that_a_firewall_closes(project: Project) -> None:
    (project.folder / "params.yaml").write_text(small_params())
    code, said = doctor(project)
    assert "4 nodes, 2 CPUs, 2 GPUs, all within reach" in said
    look = (
        f"import ray; ray.init(address='{project.bed.address}', log_to_driver=False);"
        "print(*(n['NodeManagerPort'] for n in ray.nodes()"
        " if n['Alive'] and n['NodeManagerHostname'] == 'worker2'))"
    )
    port = int(project.bed.driver.run(sys.executable, "-c", look))
    with project.bed.worker2.closed(port):
        code, said = doctor(project)
    assert code == 1
    assert f"no way to worker2 {project.bed.worker2.address}:{port} (timed out)" in said


def test_a_closed_port_of_the_head_is_a_refusal(project: Project) -> None:
    with project.bed.head.closed(RAY_PORT):
        said = project.refused("closed")
    assert f"the Ray cluster {project.bed.address} cannot be used (timed out)" in said
