"""Runs arrive in a real MLflow server, and `gait ui` shows those of the default store."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from mlflow import MlflowClient
from psutil import net_connections

from pipeline.tracking.run_descriptions import of_sweep
from pipeline.tracking.store import sentence
from tests.pipeline.project_copy import gait, small_params
from tests.pipeline.sweep_tables import make_params

STARTING_S = 180


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(folder: Path, port: int, *command: str, log: Path | None = None) -> Iterator[str]:
    """Runs a server until the block ends; yields its address once it answers."""
    address = f"http://127.0.0.1:{port}"
    with (
        log.open("w") if log else nullcontext() as output,
        subprocess.Popen([sys.executable, "-m", *command], cwd=folder, stdout=output) as server,
    ):
        try:
            deadline = time.monotonic() + STARTING_S
            while True:
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None, "the server ended"
                    assert time.monotonic() < deadline, "the server does not answer"
                    time.sleep(0.5)
            yield address
        finally:
            server.terminate()
            server.wait(60)
            # Ctrl-C and SIGTERM must reach MLflow itself, behind `gait ui` too.
            with pytest.raises(OSError, match="refused"):
                urllib.request.urlopen(f"{address}/health", timeout=5)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    (tmp_path / "params.yaml").write_text(small_params())
    gait(tmp_path, "download")
    return tmp_path


def test_runs_arrive_in_a_server(project: Path) -> None:
    port, store = free_port(), project / "server"
    store.mkdir()
    server = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    server += ("--backend-store-uri", f"sqlite:///{store / 'runs.db'}")
    server += ("--artifacts-destination", str(store / "artifacts"))
    with serving(store, port, *server) as address:
        gait(project, "train", "digits", "square", "gait", MLFLOW_TRACKING_URI=address)
        client = MlflowClient(address)
        experiment = client.get_experiment_by_name("digits")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id])
        assert {run.info.status for run in found} == {"FINISHED"}
        parents = [run for run in found if run.data.tags["gait.level"] == "model"]
        assert len(parents) == 1
        assert len(found) == 3
        names = {file.path for file in client.list_artifacts(parents[0].info.run_id)}
        assert "network.safetensors" in names
        history = client.get_metric_history(parents[0].info.run_id, "train_loss")
        assert [metric.step for metric in history] == [1, 2]
    assert not (project / "mlflow.db").exists()


def test_the_page_of_the_default_store(project: Path) -> None:
    gait(project, "train", "digits", "square", "reference")
    port = free_port()
    with serving(project, port, "pipeline", "ui", "--port", str(port)) as address:
        assert b"<title>MLflow</title>" in urllib.request.urlopen(address).read()
        experiment = MlflowClient(address).get_experiment_by_name("digits")
        assert experiment is not None
        assert len(MlflowClient(address).search_runs([experiment.experiment_id])) == 3
        listening = {each.laddr.ip for each in net_connections("tcp") if each.laddr.port == port}
        assert listening == {"127.0.0.1"}
        said = gait(project, "ui", "--port", str(port), code=2)
        assert f"port {port} of 127.0.0.1 cannot be used" in said


def test_a_databases_reason_is_told() -> None:
    preface = "BAD_REQUEST: (raised as a result of Query-invoked autoflush; consider …)"
    error = OSError(f"{preface}\n(psycopg.errors.X) value too long\n[SQL: INSERT …]")
    assert sentence(error) == "(psycopg.errors.X) value too long"
    assert sentence(OSError("one\ntwo")) == "one"
    assert sentence(OSError()) == "OSError"


def test_a_range_is_shown_as_params_have_it(tmp_path: Path) -> None:
    drawn = {"rule.learning_rate": {"loguniform": [1e-5, 0.1]}}
    note = of_sweep(make_params(tmp_path, space=drawn, search="random", trials=3))
    assert "| learning rate | {'loguniform': [1e-05, 0.1]} |" in note


def test_of_many_values_a_sweeps_page_lists_the_first_and_the_last(tmp_path: Path) -> None:
    rates = [k / 1000 for k in range(1, 1001)]
    note = of_sweep(make_params(tmp_path, space={"rule.learning_rate": rates}))
    assert "| learning rate | [0.001, 0.002, " in note
    assert ", 0.02, … 1.0], 1000 values |" in note
    assert "0.021" not in note
