"""What is looked at of a cluster's nodes before work starts, as far as it needs no cluster."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from ray._private.utils import check_version_info

from pipeline.sweep import ray_cluster
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


def test_an_error_is_a_line() -> None:
    """Ray sets the versions of a cluster of another Python below each other."""
    assert ray_cluster.first_line(ValueError("one\ntwo")) == "one"
    assert ray_cluster.first_line(ValueError()) == "ValueError"
    with pytest.raises(RuntimeError) as raised:
        check_version_info({"ray_version": "2.0.0", "python_version": "3.9.1"}, "node 1.2.3.4")
    said = ray_cluster.first_line(raised.value)
    assert "Ray: 2.0.0 Python: 3.9.1 This process on node 1.2.3.4" in said


def test_a_silent_head_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    belonging = ray_cluster.Belonging()
    with socket.socket() as head:
        # Bound and not listened on: it refuses.
        head.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{head.getsockname()[1]}"
        assert not belonging._head_answers(address)
        assert not belonging._head_answers(address)
        (said,) = capsys.readouterr().out.splitlines()
        assert address in said and said.endswith("`gait sweep --resume` goes on")
        head.listen()
        assert belonging._head_answers(address)
        assert belonging._head_answers(address)
    assert capsys.readouterr().out == "gait: the Ray cluster's head answers again\n"


# A driver whose sweep ends while a trial has its place and another waits for one.
PLACES = """
from pipeline.sweep import ray_cluster
with ray_cluster.connected(None, 0):
    import ray
    from ray.util import placement_group, placement_group_table
    kept = [placement_group([{"CPU": 1}]), placement_group([{"CPU": 1000}])]
    ray.get(kept[0].ready())
    before = sorted(each["state"] for each in placement_group_table().values())
    ray_cluster._free_places()
    after = sorted(each["state"] for each in placement_group_table().values())
print(before, after)
"""


def test_places_are_freed(tmp_path: Path) -> None:
    said = run(tmp_path, sys.executable, "-c", PLACES, PYTHONPATH=str(REPOSITORY))
    assert said.splitlines()[-1] == "['CREATED', 'PENDING'] ['REMOVED', 'REMOVED']"
