"""States that travel to the driver and back, through a real Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.pipeline.project_copy import REPOSITORY

# In a process of its own: what Ray was once imported with stays.
THERE_AND_BACK = """
from pathlib import Path
from pipeline.sweep import ray_cluster, states

there = Path("worker/1.pt")
there.parent.mkdir()
Path("file").touch()
with ray_cluster.connected(None, images_bytes=0):
    keeper = states.keeper(Path("driver").absolute())
    states.fetch(keeper, there)
    assert not there.exists()
    there.write_bytes(b"state")
    states.send(keeper, there)
    assert Path("driver/1.pt").read_bytes() == b"state"
    there.unlink()
    states.fetch(keeper, there)
    assert there.read_bytes() == b"state"
    try:
        states.send(states.keeper(Path("file").absolute()), there)
    except OSError as error:
        print(error)
    import ray  # not before its environment is set
    ray.kill(keeper)
    try:
        while True:
            ray.get(keeper.read.remote("x"))
    except ray.exceptions.RayError:
        print("killed")
    for lost in (states.send, states.fetch):
        try:
            lost(keeper, there)
        except OSError as error:
            print("lost:", error)
"""


def test_there_and_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THERE_AND_BACK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What the driver's disk does not take is an error of the disk on the worker, too.
    assert "File exists" in done.stdout
    # So is a driver that is gone: the trial goes on, or begins anew.
    assert done.stdout.count("lost:") == 2
