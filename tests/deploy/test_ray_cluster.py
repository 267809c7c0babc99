"""deploy/ray-cluster.yaml by what `ray up` does first, and against AWS's own request model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((REPOSITORY / "deploy" / "ray-cluster.yaml").read_text())


def check(config: dict[str, Any]) -> dict[str, Any]:
    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it() -> None:
    prepared = check(CONFIG)
    assert prepared["available_node_types"]["gpu"]["max_workers"] == 100
    # Nothing is left of the defaults, which install another Ray.
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert prepared[key] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("max_worker",), 100),
        (("idle_timeout_minutes",), "ten"),
        (("docker", "run_option"), []),
        (("available_node_types", "gpu", "min_worker"), 0),
        (("head_node_type",), "gpus"),
        (("available_node_types", "gpu", "min_workers"), 200),
    ],
)
def test_mistakes_are_seen(place: tuple[str, ...], value: Any) -> None:
    spoiled = copy.deepcopy(CONFIG)
    node = spoiled
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        check(spoiled)


def test_aws_knows_what_is_asked_of_it() -> None:
    model = botocore.session.Session().get_service_model("ec2")
    request = model.operation_model("RunInstances").input_shape
    for node_type in CONFIG["available_node_types"].values():
        asked = {**node_type["node_config"], "MinCount": 1, "MaxCount": 1}
        assert not ParamValidator().validate(asked, request).has_errors()
        misspelt = {**asked, "InstanceTyp": "m7i.xlarge"}
        assert ParamValidator().validate(misspelt, request).has_errors()


def test_nodes_agree_on_token_and_storage() -> None:
    options = CONFIG["docker"]["run_options"]
    assert "--env=RAY_AUTH_MODE=token" in options
    assert "--volume=/sweeps:/sweeps" in options
    assert CONFIG["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert any("/sweeps" in command for command in CONFIG["initialization_commands"])
