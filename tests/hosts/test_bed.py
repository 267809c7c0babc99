"""The hosts are apart, and what the other tests do to them is done."""

from __future__ import annotations

import socket
import subprocess
import time

from tests.hosts.bed import Bed, Host, wait_for, why_not

LISTEN = "import socket, time; s = socket.create_server(('', {})); time.sleep(1000)"


def reached(host: Host, port: int, seconds: float = 3) -> bool:
    try:
        socket.create_connection((host.address, port), timeout=seconds).close()
    except OSError:
        return False
    return True


def listen(host: Host, port: int) -> None:
    host.start("python3", "-c", LISTEN.format(port), log="listen.log")
    wait_for(f"who listens on {host.name}", lambda: reached(host, port))


def test_a_host_has_its_own_name_address_files_and_processes(wired: Bed) -> None:
    one, other = wired.worker1, wired.worker2
    assert one.run("hostname").strip() == "worker1"
    assert one.address in one.run("ip", "-brief", "address", "show", "eth0")
    one.run("touch", "/tmp/here", "/dev/shm/here")
    assert (one.tmp / "here").exists()
    assert "here" not in other.run("ls", "/tmp", "/dev/shm").split()
    assert len(one.run("ps", "-e").splitlines()) < 8


def test_who_asks_whether_hosts_can_be_made_takes_none_away(wired: Bed) -> None:
    """As a second pytest on the machine does."""
    assert why_not() is None
    wired.worker1.cut()
    wired.worker1.mend()


def test_a_line_that_is_cut_and_mended(wired: Bed) -> None:
    listen(wired.worker1, 7001)
    wired.worker1.cut()
    assert not reached(wired.worker1, 7001)
    wired.worker1.mend()
    assert reached(wired.worker1, 7001, 30)


def test_a_firewall_closes_one_port(wired: Bed) -> None:
    listen(wired.worker1, 7002)
    listen(wired.worker1, 7003)
    with wired.worker1.closed(7002):
        assert not reached(wired.worker1, 7002)
        assert reached(wired.worker1, 7003, 30)
    assert reached(wired.worker1, 7002, 30)


def test_a_bad_line(wired: Bed) -> None:
    """The delay is each direction's own."""
    listen(wired.worker1, 7005)
    with wired.worker1.bad_line(seconds=0.2, loss=0.0):
        started = time.monotonic()
        assert reached(wired.worker1, 7005, 30)
        assert time.monotonic() - started >= 0.4
    with wired.worker1.bad_line(seconds=0.0, loss=1.0):
        assert not reached(wired.worker1, 7005)
    assert reached(wired.worker1, 7005, 30)


def test_a_host_that_loses_power_keeps_its_disk_alone(wired: Bed) -> None:
    listen(wired.worker2, 7004)
    wired.worker2.run("touch", "/tmp/kept")
    wired.worker2.power_off()
    assert not reached(wired.worker2, 7004)
    wired.worker2.power_on()
    assert "kept" in wired.worker2.run("ls", "/tmp").split()
    assert not reached(wired.worker2, 7004)


def test_postgres_is_stopped_and_started(wired: Bed) -> None:
    wired.make_database()
    ask = ["psql", "-h", "127.0.0.1", "-U", "mlflow", "-Atc", "select 6 * 7", "mlflow"]
    assert wired.mlflow.run(*ask).strip() == "42"
    wired.stop_postgres()
    done = subprocess.run(wired.mlflow.command(*ask), capture_output=True, text=True, check=False)
    assert "refused" in done.stderr
    wired.start_postgres()
    assert wired.mlflow.run(*ask).strip() == "42"
