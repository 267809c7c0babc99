"""deploy/rayjob.yaml against Kubernetes' and KubeRay's schemas; unknown fields are refused.

KubeRay's is written down in kuberay-rayjob.yaml. Its publisher's own, which is 1.4 MB, is asked if
it is there: download ray-operator/config/crd/bases/ray.io_rayjobs.yaml of a release from
github.com/ray-project/kuberay, and name it in GAIT_TEST_KUBERAY.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

KUBERNETES = "1.33"
FILE = Path(__file__).parents[2] / "deploy" / "rayjob.yaml"
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))
RAY_JOB = next(document for document in DOCUMENTS if document["kind"] == "RayJob")
CLUSTER = RAY_JOB["spec"]["rayClusterSpec"]


@pytest.fixture(scope="module")
def ray_job_schema() -> Draft202012Validator:
    folder = files("kubernetes_validate") / "kubernetes-json-schema"
    definitions = folder / f"v{KUBERNETES}.0-local-strict" / "_definitions.json"
    registry = Resource.from_contents(json.loads(definitions.read_text())) @ Registry()
    schema = yaml.safe_load(Path(__file__).with_name("kuberay-rayjob.yaml").read_text())
    return Draft202012Validator(schema, registry=registry)


def pods() -> Iterator[dict[str, Any]]:
    yield RAY_JOB["spec"]["submitterPodTemplate"]["spec"]
    for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]):
        yield group["template"]["spec"]


def test_kubernetes_own_objects() -> None:
    own = [document for document in DOCUMENTS if document["kind"] != "RayJob"]
    assert {document["kind"] for document in own} == {"ConfigMap", "PersistentVolumeClaim"}
    for document in own:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_ray_job(ray_job_schema: Draft202012Validator) -> None:
    ray_job_schema.validate(RAY_JOB)


@pytest.mark.skipif(
    "GAIT_TEST_KUBERAY" not in os.environ, reason="GAIT_TEST_KUBERAY names no published schema"
)
def test_the_published_schema() -> None:
    """The job is what it allows, and mistakes are not."""
    definition = yaml.load(
        Path(os.environ["GAIT_TEST_KUBERAY"]).read_text(), Loader=yaml.CSafeLoader
    )
    (version_1,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    published = version_1["schema"]["openAPIV3Schema"]
    # An object there lists all that it may have, but metadata, which are Kubernetes' own.
    published["properties"]["metadata"] = {}
    validator = Draft202012Validator(_strict(published))
    validator.validate(RAY_JOB)
    # Modes are checked by the operator alone.
    for spoil in set(SPOILT) - {_unknown_mode}:
        spoiled = copy.deepcopy(RAY_JOB)
        spoil(spoiled)
        assert not validator.is_valid(spoiled), spoil


def _strict(schema: Any) -> Any:
    """With unknown fields refused, as the API server does with --validate=strict."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if strict.pop("x-kubernetes-int-or-string", False):
        return {"type": ["integer", "string"]}
    if "properties" in strict and not strict.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


def _unknown_in_job(job: Any) -> None:
    job["spec"]["entryPoint"] = "gait"


def _unknown_in_container(job: Any) -> None:
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["img"] = "x"


def _number_for_string(job: Any) -> None:
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def _no_name_of_group(job: Any) -> None:
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]


def _unknown_mode(job: Any) -> None:
    job["spec"]["submissionMode"] = "SshMode"


SPOILT = (
    _unknown_in_job,
    _unknown_in_container,
    _number_for_string,
    _no_name_of_group,
    _unknown_mode,
)


@pytest.mark.parametrize("spoil", SPOILT)
def test_mistakes_are_seen(
    ray_job_schema: Draft202012Validator, spoil: Callable[[Any], None]
) -> None:
    spoiled = copy.deepcopy(RAY_JOB)
    spoil(spoiled)
    with pytest.raises(ValidationError):
        ray_job_schema.validate(spoiled)


def test_volumes_and_references_exist() -> None:
    names = {document["metadata"]["name"] for document in DOCUMENTS}
    # Made by the command at the head of the file, from the user's own params.yaml.
    names.add("gait-params")
    for pod in pods():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted == set(volumes)
            for source in container.get("envFrom", []):
                assert source["configMapRef"]["name"] in names
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim is None or claim in names
            assert volume.get("configMap", {}).get("name", "gait-params") in names


def test_pods_have_few_rights() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_the_cluster_is_for_trials_on_gpus() -> None:
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in CLUSTER["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == "1"
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_versions_are_the_installed_ones() -> None:
    assert version("ray") == CLUSTER["rayVersion"]
    assert CLUSTER["authOptions"] == {"mode": "token"}
