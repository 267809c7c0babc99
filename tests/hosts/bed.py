"""Hosts on one machine: network namespaces joined by a switch, whose lines can be cut and spoiled.

Each has its own address, name, processes, /tmp and /dev/shm, and /tmp/shared, which is the same
folder on all; the project is where it is anywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.pipeline.project_copy import REPOSITORY

# Which of pytest's processes this is: each has hosts of its own.
BED = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Set aside for tests of network devices (RFC 2544): no route of a machine leads there.
NETWORK = f"198.18.{77 + BED}"
SWITCH, OUTSIDE = f"gait{BED}-switch", f"gait{BED}-hosts"
WAITING_S = 400
TOOLS = ("ip", "unshare", "nsenter", "runuser", "initdb", "postgres", "pg_ctl", "psql", "faketime")
PACKAGES = "iproute2, util-linux, postgresql, faketime"
# By its place, and not by its command: what that shares between processes ends with the first.
FAKETIME = "/usr/$LIB/faketime/libfaketimeMT.so.1"
RAY_PORT, MLFLOW_PORT = 6379, 5000
# What a host alone has installed, beside the .venv that all have.
PACKAGES_FOLDER = "/tmp/packages"
# The disk of the database, small enough to be filled.
DATABASE_BYTES = 400 * 2**20
RELAY = Path(__file__).with_name("relay.py")
PLACES = """
import ray
from ray.util import placement_group_table
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
for name, each in placement_group_table().items():
    if each["state"] != "REMOVED":
        print(name, each["state"])
"""
# What a host is: the first process of its own namespaces; with it all that runs there ends.
INIT = f"""
set -e
hostname "$1"
mount --bind "$3/names" /etc/hosts
mkdir -p "$2/shared"
mount --bind "$3/shared" "$2/shared"
mount --bind "{REPOSITORY}" /mnt
mount --rbind "$2" /tmp
mkdir -p "{REPOSITORY}"
mount --move /mnt "{REPOSITORY}"
mount -t tmpfs -o size=300m tmpfs /dev/shm
echo up
exec sleep infinity
"""


def why_not() -> str | None:
    """What keeps hosts from being made here; None if nothing does."""
    if os.geteuid() != 0:
        return "the hosts are network namespaces, which root alone may make"
    if lacking := [name for name in TOOLS if shutil.which(name) is None]:
        return f"the hosts need {', '.join(lacking)} (Debian: {PACKAGES})"
    # None that a bed has: another process may have made hosts already.
    tried = f"gait-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", tried], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", tried], capture_output=True, check=False)
    if made.returncode:
        return "the hosts are network namespaces, which this container may not make"
    return None


def wait_for(what: str, seen: Callable[[], bool]) -> None:
    """Until it is so."""
    deadline = time.monotonic() + WAITING_S
    while not seen():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.5)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


class Host:
    """One host; ``tmp`` is its /tmp as it is seen from outside."""

    def __init__(self, folder: Path, number: int, name: str) -> None:
        self.name, self.tmp = name, folder / name
        self.address = f"{NETWORK}.{number}"
        self._space = f"gait{BED}-{name}"
        self._started: list[subprocess.Popen[bytes]] = []
        self.tmp.mkdir(exist_ok=True)
        self.tmp.chmod(0o1777)
        self._start()

    def _start(self) -> None:
        _ip("netns", "add", self._space)
        line = ["link", "add", self.name, "netns", SWITCH, "type", "veth", "peer", "name", "eth0"]
        _ip(*line, "netns", self._space)
        _ip("-n", SWITCH, "link", "set", self.name, "master", "br0", "up")
        _ip("-n", self._space, "link", "set", "lo", "up")
        _ip("-n", self._space, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self._space, "link", "set", "eth0", "up")
        # Without one, Ray believes that its address is 127.0.0.1.
        _ip("-n", self._space, "route", "add", "default", "via", f"{NETWORK}.254")
        spaces = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        names = ("init", self.name, str(self.tmp), str(self.tmp.parent))
        self._init = subprocess.Popen(
            ["ip", "netns", "exec", self._space, "unshare", *spaces, "sh", "-c", INIT, *names],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == "up\n", f"the host {self.name} does not start"
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text()
        self._first = children.split()[0]

    def command(self, *words: str, folder: str = "/tmp") -> list[str]:
        """The words that run a command there."""
        spaces = ["--net", "--mount", "--uts", "--ipc", "--pid", f"--wdns={folder}"]
        return ["nsenter", "--target", self._first, *spaces, *words]

    def environment(self, **more: str) -> dict[str, str]:
        """What a shell of that host has, token and MLflow's address included."""
        named = ("RAY_", "MLFLOW_", "GAIT_")
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        return {
            **{k: v for k, v in kept.items() if not k.startswith(named)},
            "HOME": "/tmp",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": PACKAGES_FOLDER,
            "PYTHONUNBUFFERED": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
            **more,
        }

    def start(self, *words: str, log: str, **more: str) -> subprocess.Popen[bytes]:
        """A command in the background, what it says in a file of the host's /tmp."""
        with (self.tmp / log).open("a") as out:
            started = subprocess.Popen(
                self.command(*words), env=self.environment(**more), stdout=out, stderr=out
            )
        self._started.append(started)
        return started

    def run(self, *words: str, **more: str) -> str:
        """A command to its end, and what it said."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment(**more),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{self.name}: {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def install(self, package: Path) -> None:
        """A Python package, on this host alone."""
        target = self.tmp / Path(PACKAGES_FOLDER).name
        uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet"]
        how = ["--no-deps", "--no-build-isolation", "--target", str(target), str(package)]
        subprocess.run([*uv, "--python", sys.executable, *how], check=True)

    def cut(self) -> None:
        """Pulls its plug out of the switch."""
        _ip("-n", SWITCH, "link", "set", self.name, "down")

    def mend(self) -> None:
        """Puts it in again."""
        _ip("-n", SWITCH, "link", "set", self.name, "up")

    @contextlib.contextmanager
    def bad_line(self, seconds: float, loss: float) -> Iterator[None]:
        """Within the block each direction of its line is so much slower, and loses such a share."""
        near, far, bridge = "bad-near", "bad-far", "bad"
        words = [sys.executable, str(RELAY), near, far, str(seconds), str(loss)]
        with subprocess.Popen(
            ["ip", "netns", "exec", SWITCH, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as relay:
            assert relay.stdin is not None and relay.stdout is not None
            assert relay.stdout.readline() == "up\n", "no bad line can be made"
            link = ["-n", SWITCH, "link"]
            _ip(*link, "add", bridge, "type", "bridge")
            _ip(*link, "set", bridge, "up")
            _ip(*link, "set", near, "master", bridge, "up")
            _ip(*link, "set", far, "master", "br0", "up")
            _ip(*link, "set", self.name, "master", bridge)
            try:
                yield
            finally:
                _ip(*link, "set", self.name, "master", "br0")
                _ip(*link, "del", bridge)
                relay.stdin.close()

    @contextlib.contextmanager
    def closed(self, port: int) -> Iterator[None]:
        """Within the block a firewall drops what comes for that TCP port."""
        # By routing, which every kernel has: iptables and tc's actions are modules. Rules before
        # the one of the host's own addresses, which is the first unless it is moved.
        rules = ["-n", self._space, "rule"]
        match = ["pref", "50", "iif", "eth0", "ipproto", "tcp", "dport", str(port)]
        _ip(*rules, "add", "pref", "100", "lookup", "local")
        _ip(*rules, "del", "pref", "0")
        _ip(*rules, "add", *match, "blackhole")
        try:
            yield
        finally:
            _ip(*rules, "del", *match)
            _ip(*rules, "add", "pref", "0", "lookup", "local")
            _ip(*rules, "del", "pref", "100")

    def power_off(self) -> None:
        """All of its processes end at once, without a word, and its line is dead."""
        if self._init.poll() is not None:
            return
        self._init.kill()
        self._init.communicate(timeout=60)
        subprocess.run(["kill", "-KILL", self._first], capture_output=True, check=False)
        while self._started:
            self._started.pop().wait(60)
        # Sockets that linger would keep the line for a while, as no power does.
        _ip("-n", SWITCH, "link", "del", self.name)
        _ip("netns", "del", self._space)

    def power_on(self) -> None:
        """As it was, with what its disk holds."""
        self._start()


class Bed:
    """A head, two workers, a driver, and a host with PostgreSQL and MLflow."""

    def __init__(self, folder: Path) -> None:
        names = ("head", "worker1", "worker2", "mlflow", "driver")
        known = [f"{NETWORK}.{number} {name}" for number, name in enumerate(names, 1)]
        (folder / "names").write_text("\n".join(["127.0.0.1 localhost", *known, ""]))
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.head, self.worker1, self.worker2, self.mlflow, self.driver = (
            Host(folder, number, name) for number, name in enumerate(names, 1)
        )
        self.address = f"{self.head.address}:{RAY_PORT}"
        self.tracking = f"http://{self.mlflow.address}:{MLFLOW_PORT}"

    def start(self) -> None:
        """Runs all of it, as docs/cluster.md says."""
        self.make_database()
        self.start_mlflow()
        self.start_head()
        self.join(self.worker1)
        self.join(self.worker2)
        self.join(self.driver)
        wait_for("MLflow", self._mlflow_answers)
        self.wait_for_nodes(4)

    def make_database(self) -> None:
        """PostgreSQL with an empty database, if there is none yet."""
        # Its disk is memory, and gone with the host's power.
        mounted = self.mlflow.command("mountpoint", "-q", "/tmp/postgres")
        if subprocess.run(mounted, check=False).returncode == 0:
            return
        self.mlflow.run("install", "-d", "/tmp/postgres")
        options = f"size={DATABASE_BYTES},mode=700,uid=postgres"
        self.mlflow.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", "/tmp/postgres")
        database = ["-D", "/tmp/postgres", "-U", "mlflow", "--auth=trust", "--no-sync"]
        self.mlflow.run("runuser", "-u", "postgres", "--", "initdb", *database)
        self.start_postgres()
        self.mlflow.run("createdb", "-h", "127.0.0.1", "-U", "mlflow", "mlflow")

    def start_postgres(self) -> None:
        """The database, on the loopback of MLflow's host."""
        server = ["postgres", "-D", "/tmp/postgres", "-h", "127.0.0.1", "-k", "/tmp"]
        self.mlflow.start("runuser", "-u", "postgres", "--", *server, log="postgres.log")
        wait_for("PostgreSQL", self._database_answers)

    def stop_postgres(self) -> None:
        """Quickly, as for a new version: its connections are closed."""
        # The host alone sees that disk.
        stop = ["pg_ctl", "stop", "--mode=fast", "-D", "/tmp/postgres"]
        self.mlflow.run("runuser", "-u", "postgres", "--", *stop)

    def start_mlflow(self) -> None:
        """The tracking server, artifacts served."""
        words = ["server", "--host", "0.0.0.0", "--workers", "1", "--port", str(MLFLOW_PORT)]
        words += ["--backend-store-uri", "postgresql+psycopg://mlflow@127.0.0.1/mlflow"]
        words += ["--artifacts-destination", "/tmp/artifacts"]
        words += ["--allowed-hosts", f"{self.mlflow.address}:{MLFLOW_PORT}"]
        self.mlflow.start(
            sys.executable,
            "-m",
            "mlflow",
            *words,
            log="mlflow.log",
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        )

    def start_head(self) -> None:
        """Ray's head, which trains nothing."""
        self._ray(
            self.head, "--head", f"--port={RAY_PORT}", "--num-cpus=0", "--include-dashboard=false"
        )

    @contextlib.contextmanager
    def database_disk_full(self) -> Iterator[None]:
        """Within the block PostgreSQL's disk has not a byte left."""
        data = "/tmp/postgres"
        fill = ["dd", "if=/dev/zero", f"of={data}/filler", "bs=4k", "status=none"]
        done = subprocess.run(
            self.mlflow.command(*fill), capture_output=True, text=True, check=False
        )
        assert "No space left" in done.stderr, done.stderr
        try:
            yield
        finally:
            self.mlflow.run("rm", f"{data}/filler")
            # It may have gone down, as it does without room for its log.
            if not self._database_answers():
                self.start_postgres()

    def join(self, host: Host, *, clock: str = "", **more: str) -> None:
        """One more Ray node: of the workers each has a CPU, and one says that it has GPUs.

        Args:
            host: where.
            clock: how far its clock is off, as faketime has it.
            more: of its environment.
        """
        cpus = 0 if host is self.driver else 1
        gpus = 2 if host is self.worker1 else 0
        words = [f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        if clock:
            more = {**more, "FAKETIME": clock, "LD_PRELOAD": FAKETIME}
        self._ray(host, *words, **more)

    def places(self) -> str:
        """What Ray keeps of the cluster for a trial, or wants of it: nothing, after a sweep."""
        return self.head.run(sys.executable, "-c", PLACES).strip()

    def stop(self, host: Host) -> None:
        """What is left of a node whose head is gone."""
        host.run(str(Path(sys.executable).with_name("ray")), "stop", "--force")

    def _ray(self, host: Host, *words: str, **more: str) -> None:
        store = f"--object-store-memory={100 * 2**20}"
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", *words, store, "--disable-usage-stats"]

        def started() -> bool:
            # Ray gives a node 30 seconds to start, which a busy machine may exceed.
            code = host.start(*command, log="start.log", **more).wait(WAITING_S)
            if code:
                self.stop(host)
            return code == 0

        wait_for(f"Ray on {host.name}", started)

    def join_again(self) -> None:
        """Every node that the head takes for lost, as it does with one whose line was cut."""
        # Any of them: where two beds share two cores, one may miss its heartbeats for as long.
        living = self._living()
        for host in (self.worker1, self.worker2, self.driver):
            if host.name not in living:
                self.stop(host)
                self.join(host)
        self.wait_for_nodes(4)

    def wait_for_nodes(self, count: int) -> None:
        """Until the cluster has so many living nodes."""
        living: list[str] = []

        def seen() -> bool:
            living[:] = self._living()
            return len(living) == count

        try:
            wait_for(f"{count} nodes", seen)
        except AssertionError as error:
            error.add_note(f"living: {living}")
            raise

    def _living(self) -> list[str]:
        look = (
            f"import ray; ray.init(address='{self.address}', log_to_driver=False);"
            "print(*(n['NodeManagerHostname'] for n in ray.nodes() if n['Alive']))"
        )
        return self.head.run(sys.executable, "-c", look).split()

    def _database_answers(self) -> bool:
        ask = self.mlflow.command("pg_isready", "-h", "127.0.0.1", "-q")
        return subprocess.run(ask, check=False).returncode == 0

    def _mlflow_answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.tracking}/health", timeout=5).close()
        except OSError:
            return False
        return True

    def hosts(self) -> list[Host]:
        """All of them."""
        return [self.head, self.worker1, self.worker2, self.mlflow, self.driver]


@contextlib.contextmanager
def wired() -> Iterator[Bed]:
    """The hosts, idle, until the block ends; this process has an address among them, too."""
    with tempfile.TemporaryDirectory(prefix="gait-hosts-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        bed = None
        _ip("netns", "add", SWITCH)
        try:
            _ip("-n", SWITCH, "link", "add", "br0", "type", "bridge")
            _ip("-n", SWITCH, "link", "set", "br0", "up")
            line = ["link", "add", OUTSIDE, "type", "veth", "peer", "name", "outside"]
            _ip(*line, "netns", SWITCH)
            _ip("-n", SWITCH, "link", "set", "outside", "master", "br0", "up")
            _ip("address", "add", f"{NETWORK}.254/24", "dev", OUTSIDE)
            _ip("link", "set", OUTSIDE, "up")
            bed = Bed(Path(folder))
            yield bed
        finally:
            for host in bed.hosts() if bed is not None else []:
                host.power_off()
            _ip("netns", "del", SWITCH)
