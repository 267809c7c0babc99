"""deploy/compose.yaml against the Compose Specification's schema, its variables filled in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from sqlalchemy import make_url

FOLDER = Path(__file__).parents[2] / "deploy"
TEXT = (FOLDER / "compose.yaml").read_text()
EXAMPLE = (FOLDER / ".env.example").read_text()
SECRETS = {"POSTGRES_PASSWORD": "p" * 8, "RAY_AUTH_TOKEN": "t" * 32}
# ${NAME}, ${NAME:-default} and ${NAME:?what is missing}: as much of the syntax as the file uses.
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?:(?P<how>:-|:\?)(?P<text>[^}]*))?\}")


def fill_in(text: str, environment: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = environment.get(match["name"], "")
        if found:
            return found
        if match["how"] == ":?":
            raise ValueError(f"{match['name']}: {match['text']}")
        return match["text"] or ""

    return VARIABLE.sub(value, text)


def load(environment: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(fill_in(TEXT, environment))
    return document


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return load(SECRETS)


@pytest.fixture(scope="module")
def schema() -> Any:
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    content = json.loads(vendored.read_text())
    return jsonschema.validators.validator_for(content)(content)


def test_schema_as_it_stands() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(FOLDER / "compose.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_schema_with_variables_filled_in(compose: dict[str, Any], schema: Any) -> None:
    schema.validate(compose)
    assert "${" not in json.dumps(compose)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shm_size:", "shm-size:"),
        ("condition: service_healthy", "condition: healthy"),
        ("ports:", "port:"),
        ("      retries: 12", "      retry: 12"),
    ],
)
def test_mistakes_are_seen(schema: Any, old: str, new: str) -> None:
    assert old in TEXT
    spoiled = yaml.safe_load(fill_in(TEXT.replace(old, new, 1), SECRETS))
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(spoiled)


@pytest.mark.parametrize("missing", SECRETS)
def test_secrets_have_no_default(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        load({name: value for name, value in SECRETS.items() if name != missing})
    assert re.search(rf"^{missing}=$", EXAMPLE, re.MULTILINE)


def test_every_variable_is_explained() -> None:
    assert TEXT.count("$") == len(VARIABLE.findall(TEXT))
    used = {match["name"] for match in VARIABLE.finditer(TEXT)}
    defaults = {match["name"]: match["text"] for match in VARIABLE.finditer(TEXT) if match["text"]}
    explained = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    # `make image` sets the commit.
    assert set(explained) == used - {"COMMIT"}
    for name, value in explained.items():
        assert name in SECRETS or value == defaults[name]


def test_ports_are_for_this_machine_alone(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_services_fit_together(compose: dict[str, Any]) -> None:
    services, volumes = compose["services"], set(compose["volumes"])
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        named = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert {name for name in named if not name.startswith(".")} <= volumes
    hosts = [option for option in services["mlflow"]["command"] if "allowed-hosts" in option]
    address = services["head"]["environment"]["MLFLOW_TRACKING_URI"]
    assert address.removeprefix("http://") in hosts[0].partition("=")[2].split(",")
    for ray in ("head", "worker", "gpu-worker"):
        assert services[ray]["environment"]["RAY_AUTH_TOKEN"] == SECRETS["RAY_AUTH_TOKEN"]
        assert "sweeps:/sweeps" in services[ray]["volumes"]


def test_the_database_has_its_driver(compose: dict[str, Any]) -> None:
    command = compose["services"]["mlflow"]["command"]
    address = next(option for option in command if "backend-store-uri" in option)
    dialect = make_url(address.partition("=")[2]).get_dialect()
    assert dialect.import_dbapi().connect


def test_secrets_stay_out_of_git_and_image() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", "deploy/.env"], cwd=FOLDER.parent, check=False
    )
    assert ignored.returncode == 0
    assert "deploy" not in (FOLDER.parent / ".dockerignore").read_text()
