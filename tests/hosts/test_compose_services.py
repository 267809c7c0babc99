"""deploy/compose.yaml's services as processes of hosts, by its own commands and environment.

There is no container engine here: a host stands for a container, a folder of it for a volume.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from tests.cluster.test_sweep_on_a_cluster import FEW
from tests.deploy import test_compose
from tests.hosts.bed import Bed, Host, wait_for
from tests.pipeline.project_copy import REPOSITORY, small_params

pytestmark = pytest.mark.timeout(600)

SETTINGS = {**test_compose.SECRETS, "WORKER_CPUS": "1"}
# Where the volumes are.
FOLDERS = {"/artifacts": "/tmp/artifacts", "/sweeps": "/tmp/shared/sweeps"}
APP = "/tmp/app"


class Services:
    """The services, each on its host under its own name."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.services: dict[str, Any] = test_compose.load(SETTINGS)["services"]
        self.hosts = {"database": bed.driver, "mlflow": bed.mlflow, "head": bed.head}
        names = bed.shared.parent / "names"
        names.write_text(f"{names.read_text()}{bed.driver.address} database\n")

    def start(self, name: str, host: Host) -> None:
        """What compose would start."""
        command = self.services[name]["command"]
        words = shlex.split(command) if isinstance(command, str) else command
        for inside, here in FOLDERS.items():
            words = [word.replace(f"={inside}", f"={here}") for word in words]
        host.start(*words, log=f"{name}.log", **self.environment(name))

    def environment(self, name: str) -> dict[str, str]:
        """What the service gets, and the image's own PATH."""
        given = {key: str(value) for key, value in self.services[name]["environment"].items()}
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            # The hosts know each other's names by a file, and there is no server to ask first.
            "GRPC_DNS_RESOLVER": "native",
            **given,
        }

    def wait_until_healthy(self, name: str) -> None:
        """By its own check."""
        words = self.services[name]["healthcheck"]["test"]
        assert words[0] == "CMD"
        self._wait(name, self.hosts[name], words[1:], {})

    def wait_for_ray(self, name: str, host: Host) -> None:
        """By the image's check, once there is a Ray to look at."""
        wait_for(f"Ray on {host.name}", (host.tmp / "ray" / "ray_current_cluster").exists)
        dockerfile = (REPOSITORY / "Dockerfile").read_text()
        found = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", dockerfile, re.MULTILINE)
        assert found
        self._wait(name, host, json.loads(found[1]), self.environment(name))

    def _wait(self, name: str, host: Host, words: list[str], given: dict[str, str]) -> None:
        def healthy() -> bool:
            check = subprocess.run(
                host.command(*words),
                env=host.environment(**given),
                capture_output=True,
                check=False,
            )
            return check.returncode == 0

        wait_for(f"{name} on {host.name}", healthy)

    def start_database(self) -> None:
        """What the entry point of PostgreSQL's image makes of its variables."""
        host, given = self.bed.driver, self.services["database"]["environment"]
        (host.tmp / "password").write_text(given["POSTGRES_PASSWORD"])
        (host.tmp / "password").chmod(0o644)
        host.run("install", "-d", "-o", "postgres", "/tmp/database")
        made = ["-D", "/tmp/database", "-U", given["POSTGRES_USER"], "--no-sync"]
        made += ["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=/tmp/password"]
        host.run("runuser", "-u", "postgres", "--", "initdb", *made)
        with (host.tmp / "database" / "pg_hba.conf").open("a") as file:
            file.write("host all all all scram-sha-256\n")
        server = ["postgres", "-D", "/tmp/database", "-h", "*", "-k", "/var/run/postgresql"]
        host.run("install", "-d", "/var/run/postgresql")
        host.run("mount", "-t", "tmpfs", "-o", "uid=postgres", "tmpfs", "/var/run/postgresql")
        host.start("runuser", "-u", "postgres", "--", *server, log="database.log")
        # Its answer does not ask whether the database is there.
        self.wait_until_healthy("database")
        host.run("createdb", "-U", given["POSTGRES_USER"], given["POSTGRES_DB"])


@pytest.fixture(scope="module")
def services(wired: Bed) -> Iterator[Services]:
    """Up, in the order of compose.yaml; the hosts are idle again after the block."""
    made = Services(wired)
    used = [wired.driver, wired.mlflow, wired.head, wired.worker1, wired.worker2]
    try:
        made.start_database()
        made.start("mlflow", wired.mlflow)
        made.wait_until_healthy("mlflow")
        made.start("head", wired.head)
        made.wait_for_ray("head", wired.head)
        for worker in (wired.worker1, wired.worker2):
            made.start("worker", worker)
            made.wait_for_ray("worker", worker)
        yield made
    finally:
        for host in used:
            host.power_off()
            host.power_on()


def test_a_sweep_as_the_file_says(services: Services) -> None:
    head = services.bed.head
    assert "cp params.yaml head:/app/params.yaml" in test_compose.TEXT
    app = head.tmp / "app"
    app.mkdir()
    text = small_params()
    section = FEW.replace("NAME", "composed")
    (app / "params.yaml").write_text(text[: text.index("\nsweep:")] + section)
    sweep = "gait sweep --address auto --storage /tmp/shared/sweeps"
    assert sweep.replace(FOLDERS["/sweeps"], "/sweeps") in test_compose.TEXT

    done = subprocess.run(
        head.command(*sweep.split(), folder=APP),
        env=head.environment(**services.environment("head")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = app / "results" / "digits" / "sweep" / "composed"
    trials = pandas.read_csv(results / "trials.csv")
    assert list(trials["status"]) == ["FINISHED", "FINISHED"]
    # By the port that compose publishes for the machine itself.
    ask = "from mlflow import MlflowClient as C; c = C('http://127.0.0.1:5000');"
    ask += "e = c.get_experiment_by_name('digits-sweeps');"
    ask += "print(*sorted(r.info.status for r in c.search_runs([e.experiment_id])))"
    told = services.bed.mlflow.run(sys.executable, "-c", ask)
    assert told.split() == ["FINISHED"] * 3
