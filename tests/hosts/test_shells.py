"""Whoever else has a cluster on a host, and whatever else a shell has set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.test_sweep_on_a_cluster import FEW, WAITING_S
from tests.hosts.bed import NETWORK, Host
from tests.hosts.sweeps import Project

# The first one waits for the hosts, too.
pytestmark = pytest.mark.timeout(1500)

# Nothing is there.
DEAD = f"{NETWORK}.99"
# Another user, who may read all, since the project may lie in somebody's home.
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
NOBODY += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def test_variables_of_the_shell_change_nothing(project: Project) -> None:
    """Those of Ray, of proxies that do not lead to MLflow, and of GPUs."""
    proxies = {name: f"http://{DEAD}:3128" for name in ("http_proxy", "https_proxy", "grpc_proxy")}
    with project.sweep(
        "variables",
        section=FEW,
        RAY_ADDRESS=f"{DEAD}:6379",
        RAY_TMPDIR="/tmp/elsewhere",
        CUDA_VISIBLE_DEVICES="0",
        no_proxy=project.bed.mlflow.address,
        **proxies,
        **{name.upper(): value for name, value in proxies.items()},
    ) as process:
        output, _ = process.communicate(timeout=WAITING_S)
    assert process.returncode == 0, output
    assert len(project.tags("variables", "gait.trial")) == 2


def test_two_users_have_a_cluster_each_on_one_host(project: Project) -> None:
    host, address = project.bed.worker1, f"{project.bed.worker1.address}:6390"
    other = {"HOME": "/tmp/other", "RAY_AUTH_TOKEN": "f" * 64}
    other["MLFLOW_TRACKING_URI"] = project.bed.tracking
    host.run(*NOBODY, "mkdir", "/tmp/other")
    ray = str(Path(sys.executable).with_name("ray"))
    # Without a folder of its own a second user's Ray stumbles over a file of the first one's.
    start = ["start", "--head", "--port=6390", "--num-cpus=1", "--temp-dir=/tmp/other/ray"]
    start += ["--include-dashboard=false", "--disable-usage-stats"]
    project.define("others", FEW)
    (host.tmp / "other" / "params.yaml").write_text((project.folder / "params.yaml").read_text())
    try:
        host.run(*NOBODY, ray, *start, f"--object-store-memory={100 * 2**20}", **other)
        code, said = _sweep(host, address, **other)
        assert code == 0, said
        assert set(project.tags("others", "host")) == {"worker1"}
        # The other's cluster lets in nobody but the other.
        code, said = _sweep(host, project.bed.address, **other)
        assert code == 2, said
        assert f"the Ray cluster {project.bed.address} cannot be used" in said
    finally:
        subprocess.run(host.command("pkill", "-KILL", "-u", "65534"), check=False)
    project.bed.wait_for_nodes(4)


def _sweep(host: Host, address: str, **more: str) -> tuple[int, str]:
    gait = [sys.executable, "-m", "pipeline", "sweep", "--address", address, "--restart"]
    done = subprocess.run(
        host.command(*NOBODY, *gait, folder="/tmp/other"),
        env=host.environment(**more),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
