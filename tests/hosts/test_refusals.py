"""What is refused before a sweep begins, and what `gait doctor` says of a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from tests.hosts.bed import RAY_PORT
from tests.hosts.sweeps import Project

# The first one waits for the hosts, too.
pytestmark = pytest.mark.timeout(1500)


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
    project.define("doctor")
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


def test_a_machine_that_is_no_node_is_a_refusal(project: Project) -> None:
    bed = project.bed
    bed.stop(bed.driver)
    bed.wait_for_nodes(3)
    said = project.refused("outside")
    bed.join(bed.driver)
    bed.wait_for_nodes(4)
    assert f"the Ray cluster {bed.address} has no living node on this machine" in said
    assert f"`ray start --address={bed.address}` makes one" in said
