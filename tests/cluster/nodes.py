"""A Ray cluster and an MLflow server on this machine, as processes to start and to kill."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

STARTING_S = 600
# The ports from which a node gives each of its workers one; the nodes' must not meet.
WORKER_PORTS = 40
# Holds the one CPU of every node but one until its standard input ends.
OCCUPIED = """
import sys
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

class Guest:
    def is_here(self):
        return True

ray.init(address=sys.argv[1], log_to_driver=False)
nodes = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
free = nodes.pop(int(sys.argv[2]))
guests = [
    ray.remote(Guest)
    .options(num_cpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
    .remote()
    for node in nodes
]
ray.get([guest.is_here.remote() for guest in guests])
print(free, flush=True)
sys.stdin.read()
"""


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Node:
    """One Ray node: the processes that ``ray start --block`` starts."""

    def __init__(self, folder: Path, number: int, *arguments: str) -> None:
        first = 21000 + number * WORKER_PORTS
        command = [str(Path(sys.executable).with_name("ray")), "start", *arguments]
        command += ["--block", "--disable-usage-stats", "--num-cpus=1"]
        command += [f"--object-store-memory={100 * 2**20}"]
        command += [f"--min-worker-port={first}", f"--max-worker-port={first + WORKER_PORTS - 1}"]
        self._command, self._folder, self._number = command, folder, number
        self.killed = False
        self._start()

    def _start(self) -> None:
        with (self._folder / f"node-{self._number}.log").open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                env=ray_environment(self._folder),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._root = psutil.Process(self._process.pid)

    def start_if_it_failed(self) -> None:
        """Once more, if it has ended and was not killed."""
        if self._process.poll() is not None:
            self._start()

    def processes(self) -> list[psutil.Process]:
        """All that belongs to the node, itself last."""
        try:
            return [*self._root.children(recursive=True), self._root]
        except psutil.NoSuchProcess:
            return []

    def trial_workers(self) -> list[psutil.Process]:
        """The workers that train now."""
        return [each for each in self.processes() if _title(each).startswith("ray::ImplicitFunc")]

    def kill(self) -> None:
        """The machine is lost: nothing of the node says goodbye."""
        self.killed = True
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        self._process.wait(60)


class Cluster:
    """A head and two workers, with a HOME and a token of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[Node] = []

    def start(self) -> None:
        """Runs the three nodes, each of which takes a trial at a time."""
        head = ["--head", f"--port={self.address.rpartition(':')[2]}"]
        head += ["--include-dashboard=false", f"--temp-dir={self.folder}"]
        self.nodes.append(Node(self.folder, 0, *head))
        self._wait()
        self.add(2)

    def add(self, count: int = 1) -> None:
        """More worker nodes."""
        for _ in range(count):
            self.nodes.append(Node(self.folder, len(self.nodes), f"--address={self.address}"))
        self._wait()

    @contextlib.contextmanager
    def room_on_one_node(self, number: int) -> Iterator[str]:
        """Within the block all nodes but one, whose id it yields, are occupied."""
        with subprocess.Popen(
            [sys.executable, "-c", OCCUPIED, self.address, str(number)],
            env=ray_environment(self.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            free = process.stdout.readline().strip()
            assert free, "the nodes cannot be occupied"
            try:
                yield free
            finally:
                process.communicate()

    def kill(self) -> None:
        """Ends all that is left of it."""
        for node in reversed(self.nodes):
            node.kill()

    def _wait(self) -> None:
        """Until all nodes that have not been killed are there."""
        look = (
            "import ray; ray.init(address='" + self.address + "', log_to_driver=False);"
            "print('nodes', sum(node['Alive'] for node in ray.nodes()))"
        )
        deadline = time.monotonic() + STARTING_S
        while True:
            seen = subprocess.run(
                [sys.executable, "-c", look],
                env={**ray_environment(self.folder), "RAY_gcs_server_port_wait_time_s": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
            wanted = [node for node in self.nodes if not node.killed]
            if f"nodes {len(wanted)}" in seen.stdout:
                return
            assert time.monotonic() < deadline, f"the cluster does not come up: {seen.stderr}"
            for node in wanted:
                # Ray gives a node 30 seconds to start, which a busy machine may exceed.
                node.start_if_it_failed()
            time.sleep(1)


class Server:
    """An MLflow server with a SQLite store, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Runs it, and waits until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'runs.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "mlflow.log").open("a") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + STARTING_S
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, "the MLflow server ended"
                assert time.monotonic() < deadline, "the MLflow server does not answer"
                time.sleep(0.5)

    def stop(self) -> None:
        """Ends it, with all of its processes."""
        if self._process is None:
            return
        root = psutil.Process(self._process.pid)
        for each in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        self._process.wait(60)


def ray_environment(folder: Path) -> dict[str, str]:
    """What every process has that is to belong to the cluster."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "GAIT_"))}
    return {
        **kept,
        "HOME": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "OMP_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def running() -> Iterator[tuple[Cluster, Server]]:
    """A cluster and a server until the block ends."""
    # Not pytest's folder: the path of a Unix socket has room for 107 letters.
    with tempfile.TemporaryDirectory(prefix="gait-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder))
        cluster = Cluster(Path(folder))
        try:
            server.start()
            cluster.start()
            yield cluster, server
        finally:
            cluster.kill()
            server.stop()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
