"""deploy/slurm.sbatch on a real SLURM of two nodes: requeued in the middle, it goes on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.test_sweep_on_a_cluster import TRIALS
from tests.hosts.bed import Bed, Host, wait_for
from tests.hosts.sweeps import Project
from tests.pipeline.project_copy import REPOSITORY

# The first one waits for the hosts, too.
pytestmark = pytest.mark.timeout(1500)

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "munged")
HERE = "/tmp/shared/slurm"
# As plain as it can be. A job that is started again waits until its credential has expired.
CONF = """
ClusterName=gait
SlurmctldHost=head
SlurmUser=root
SlurmdUser=root
AuthInfo=socket=/tmp/munge.socket,cred_expire=10
KillWait=10
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
StateSaveLocation=/tmp/slurmctld
SlurmdSpoolDir=/tmp/slurmd
SlurmctldPidFile=/tmp/slurmctld.pid
SlurmdPidFile=/tmp/slurmd.pid
NodeName=worker[1-2] CPUs=2
PartitionName=all Nodes=ALL Default=YES
"""
CALLED = {"SLURM_CONF": f"{HERE}/slurm.conf"}


@pytest.fixture(scope="module")
def slurm(project: Project) -> Bed:
    """A controller on the head's host, and the two workers as its nodes."""
    if lacking := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"SLURM needs {', '.join(lacking)} (Debian: slurm-wlm, munge)")
    bed = project.bed
    folder = bed.shared / "slurm"
    folder.mkdir()
    (folder / "slurm.conf").write_text(CONF)
    # Nothing is done with cgroups; but the kind is looked for where there is none.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "munge.key").write_bytes(bytes(range(128)))
    (folder / "munge.key").chmod(0o600)
    for host in (bed.head, bed.worker1, bed.worker2):
        files = [f"--{name}-file=/tmp/munge.{name}" for name in ("pid", "log", "seed")]
        munged = ["munged", "--foreground", "--force", "--socket=/tmp/munge.socket", *files]
        host.start(*munged, f"--key-file={HERE}/munge.key", log="munged.log")
        wait_for("munge", (host.tmp / "munge.socket").exists)
    (bed.head.tmp / "slurmctld").mkdir(exist_ok=True)
    bed.head.start("slurmctld", "-D", log="slurmctld.log", **CALLED)
    for host in (bed.worker1, bed.worker2):
        (host.tmp / "slurmd").mkdir(exist_ok=True)
        host.start("slurmd", "-D", log="slurmd.log", **CALLED)
    return bed


def ask(host: Host, *words: str) -> str:
    done = subprocess.run(
        host.command(*words),
        env=host.environment(**CALLED),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_job_that_is_requeued_goes_on(slurm: Bed, project: Project, undisturbed: bytes) -> None:
    wait_for("both nodes", lambda: "idle" in ask(slurm.head, "sinfo", "-h", "-o%T%D").split("2")[0])
    folder = slurm.shared / "project"
    folder.mkdir()
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    project.define("slurm")
    shutil.copy(project.folder / "params.yaml", folder)
    sbatch = ["sbatch", "--parsable", "--nodes=2", "--cpus-per-task=1", "--output=out"]
    done = subprocess.run(
        slurm.head.command(*sbatch, "deploy/slurm.sbatch", folder="/tmp/shared/project"),
        env=slurm.head.environment(MLFLOW_TRACKING_URI=slurm.tracking, **CALLED),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    out = folder / "out"
    wait_for("a quarter of the trials", lambda: f"(6 of {TRIALS})" in _read(out))
    ask(slurm.head, "scontrol", "requeue", job)
    state = ["scontrol", "show", "job", job]
    ended = ("JobState=COMPLETED", "JobState=FAILED")
    wait_for("its end", lambda: any(each in ask(slurm.head, *state) for each in ended))
    said = _read(out)
    shown = ask(slurm.head, *state)
    assert "Restarts=1" in shown and "ExitCode=0:0" in shown, shown + said
    shutil.copytree(folder / "results", project.folder / "results", dirs_exist_ok=True)
    project.check("slurm", said, 0)
    assert project.trials_csv("slurm") == undisturbed


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
