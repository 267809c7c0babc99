"""What is looked at of a cluster's nodes before work starts, as far as it needs no cluster."""

from __future__ import annotations

import socket

from pipeline.sweep import ray_cluster


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
