"""What is looked at of a cluster's nodes before work starts, as far as it needs no cluster."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from ray._private.utils import check_version_info

from pipeline.project.errors import GaitError
from pipeline.sweep import ray_cluster
from pipeline.training.plugin_source import plugin_of
from tests.own_packages import packages
from tests.pipeline.project_copy import REPOSITORY, run


def test_a_closed_port_is_named_with_its_node() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened, socket.socket() as closed:
        # Bound and not listened on: refused, and nobody else's meanwhile.
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        node = {
            "Alive": True,
            "NodeManagerAddress": "127.0.0.1",
            "NodeManagerHostname": "one",
            "NodeManagerPort": opened.getsockname()[1],
            "ObjectManagerPort": port,
        }
        found = ray_cluster.closed_ports([node, {**node, "Alive": False}])
    assert len(found) == 1
    assert found[0].startswith(f"one 127.0.0.1:{port} (")
    assert "refused" in found[0]


def test_other_versions_are_named() -> None:
    here = ray_cluster.libraries()
    assert ray_cluster.difference(here, here) == ""
    there = {**here, "numpy": "1.0.0"}
    assert ray_cluster.difference(there, here) == f"numpy 1.0.0, here {here['numpy']}"


def test_what_a_node_lacks_of_a_rules_package_is_named(tmp_path: Path) -> None:
    with packages(tmp_path, "gaitprop.rules") as install:
        install("mirrors", "def own(layer, error, scale):\n    return error\n", mirror="own")
        plugin_of.cache_clear()
        here = ray_cluster.own_code(["mirror"])
    plugin_of.cache_clear()
    assert here["the rule mirror"].startswith("of mirrors with SHA-256 ")
    there = ray_cluster.own_code(["mirror"])
    assert ray_cluster.difference(there, here) == (
        f"the rule mirror not installed, here {here['the rule mirror']}"
    )


def test_a_node_says_its_versions_without_pytorch(tmp_path: Path) -> None:
    """Whose import takes seconds on every node, for each sweep."""
    ask = "import sys\nfrom pipeline.sweep.ray_cluster import own_code\nown_code([])\n"
    ask += "print('torch' in sys.modules)"
    assert run(tmp_path, sys.executable, "-c", ask, PYTHONPATH=str(REPOSITORY)) == "False\n"


def test_an_error_is_a_line() -> None:
    """Ray sets the versions of a cluster of another Python below each other."""
    assert ray_cluster.first_line(ValueError("one\ntwo")) == "one"
    assert ray_cluster.first_line(ValueError()) == "ValueError"
    text = "Traceback (most recent call last):\n  File\nOSError: no space left\n"
    assert ray_cluster.first_line(ValueError(text)) == "OSError: no space left"
    with pytest.raises(RuntimeError) as raised:
        check_version_info({"ray_version": "2.0.0", "python_version": "3.9.1"}, "node 1.2.3.4")
    said = ray_cluster.first_line(raised.value)
    assert "Ray: 2.0.0 Python: 3.9.1 This process on node 1.2.3.4" in said


@pytest.mark.parametrize("given", ["ray://127.0.0.1:1", "auto"])
def test_rays_client_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:1")
    with pytest.raises(GaitError, match="of Ray's client"):
        ray_cluster.check_address(given)
    monkeypatch.delenv("RAY_ADDRESS")
    ray_cluster.check_address("auto")


def test_auto_is_what_ray_address_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "")
    ray_cluster.check_address("auto")
    with socket.socket() as head:
        # Bound and not listened on: it refuses.
        head.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        told = f"cluster {address} cannot be used .*refused"
        with pytest.raises(GaitError, match=told), ray_cluster.connected("auto", 0):
            pass


@pytest.mark.parametrize("given", ["", "local", "http://127.0.0.1:8265", "127.0.0.1", "host:"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(GaitError, match=r"received '.*'; allowed: auto or HOST:PORT$"):
        ray_cluster.check_address(given)
    for address in (None, "127.0.0.1:6379", "[::1]:6379", "node-1.example.org:6379"):
        ray_cluster.check_address(address)


# Brackets are for addresses of IPv6, which not every machine has.
@pytest.mark.parametrize("host", ["127.0.0.1", "[127.0.0.1]"])
def test_a_silent_head_is_told_once(capsys: pytest.CaptureFixture[str], host: str) -> None:
    belonging = ray_cluster.Belonging("`gait sweep --resume`")
    with socket.socket() as head:
        # Bound and not listened on: it refuses.
        head.bind(("127.0.0.1", 0))
        address = f"{host}:{head.getsockname()[1]}"
        assert not belonging._head_answers(address)
        assert not belonging._head_answers(address)
        (said,) = capsys.readouterr().out.splitlines()
        assert address in said and said.endswith("ends the sweep, `gait sweep --resume` goes on")
        head.listen()
        assert belonging._head_answers(address)
        assert belonging._head_answers(address)
    assert capsys.readouterr().out == "gait: the Ray cluster's head answers again\n"


# A head, and two drivers that end and leave a place behind, which ``detached`` lets them.
LEAVES = """
import ray
from ray.util import placement_group
ray.init(log_to_driver=False)
ray.get(placement_group([{"CPU": 1}], lifetime="detached").ready())
"""
PLACES = f"""
import os, subprocess, sys
from pipeline.sweep import ray_cluster
with ray_cluster.connected(None, 0):
    import ray
    from ray.util import placement_group, placement_group_table
    def states():
        return sorted(each["state"] for each in placement_group_table().values())
    own = placement_group([{{"CPU": 1000}}])
    there = {{**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}}
    for words in (["pipeline", "sweep", "--resume"], ["others", "sweep"]):
        subprocess.run([sys.executable, "-c", {LEAVES!r}, *words], env=there, check=True)
    before = states()
    ray_cluster._free_left_places()
    print(before, states())
"""


def test_what_sweeps_left_of_a_cluster_is_freed(tmp_path: Path) -> None:
    """Neither what others keep, nor what this one wants."""
    said = run(tmp_path, sys.executable, "-c", PLACES, PYTHONPATH=str(REPOSITORY))
    before = ["CREATED", "CREATED", "PENDING"]
    assert said.splitlines()[-1] == f"{before} {['CREATED', 'PENDING', 'REMOVED']}"
