"""What is looked at of a cluster's nodes before work starts, as far as it needs no cluster."""

from __future__ import annotations

from pipeline.sweep import ray_cluster


def test_other_versions_are_named() -> None:
    here = ray_cluster.libraries()
    assert ray_cluster.difference(here, here) == ""
    there = {**here, "numpy": "1.0.0"}
    assert ray_cluster.difference(there, here) == f"numpy 1.0.0, here {here['numpy']}"
