"""An MLflow store that is away at the start, in the middle, at the end; one that is locked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.pipeline.preloaded import Preloaded, Process
from tests.pipeline.tracking.test_store import free_port, serving
from tests.pipeline.trained import STATE, check_nothing_left, check_one_history, files, runs
from tests.reliability.line import Line

EPOCHS = 60
TRAIN = ("train", "digits", "square", "gait")
SECRET = "a-token-that-nobody-may-see"  # pragma: allowlist secret
PATIENCE_S = 60
# A store that goes away while several figures are sent has taken some: what it does then is said in
# other words, and this follows in both.
TOLD = "and what is missing is sent again"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real MLflow server."""
    store, port = tmp_path_factory.mktemp("server"), free_port()
    command = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    command += ("--backend-store-uri", f"sqlite:///{store / 'runs.db'}")
    command += ("--artifacts-destination", str(store / "artifacts"))
    with serving(store, port, *command):
        yield port


@pytest.fixture
def line(server: int) -> Iterator[Line]:
    """A line to the server, mended."""
    made = Line(server)
    made.mend()
    yield made
    if made._listener is not None:
        made.cut()


@pytest.fixture
def project(tmp_path: Path, new_project: Callable[..., Path]) -> Path:
    return new_project(tmp_path / "project", EPOCHS)


@pytest.fixture
def reference(uninterrupted: Callable[[int], dict[str, bytes]]) -> dict[str, bytes]:
    return uninterrupted(EPOCHS)


@pytest.fixture(autouse=True)
def empty_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test leaves on the server is out of the next one's way."""
    yield
    if "line" in request.fixturenames:
        port = request.getfixturevalue("server")
        from mlflow import MlflowClient

        client = MlflowClient(f"http://127.0.0.1:{port}")
        for run in runs(Path(), f"http://127.0.0.1:{port}"):
            client.delete_run(run.info.run_id)
            for model in client.search_logged_models([run.info.experiment_id]):
                client.delete_logged_model(model.model_id)


def wait_for(what: Callable[[], bool], process: Process) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, process.output
        time.sleep(0.01)


def test_away_at_the_start(project: Path, helper: Preloaded, server: int) -> None:
    nobody = f"http://user:{SECRET}@127.0.0.1:{free_port()}"
    message = helper.run(project, *TRAIN, code=2, MLFLOW_TRACKING_URI=nobody)
    assert message.startswith("gait: the MLflow store http://127.0.0.1:")
    assert "cannot be used" in message and "Traceback" not in message
    assert SECRET not in message
    assert not (project / "models").exists() or not list((project / "models").rglob("*.json"))
    check_nothing_left(project)


def test_away_in_the_middle(
    project: Path, helper: Preloaded, line: Line, reference: dict[str, bytes]
) -> None:
    process = helper.start(
        project, *TRAIN, MLFLOW_TRACKING_URI=line.address, GAIT_STATE_INTERVAL_S="0"
    )
    wait_for(lambda: (project / STATE / "state.pt").exists(), process)
    line.cut()
    wait_for(lambda: TOLD in process.output, process)
    line.mend()
    assert process.wait() == 0, process.output
    assert process.output.count(TOLD) == 1
    assert "MLflow can be written again" in process.output
    assert files(project) == reference
    check_one_history(project, EPOCHS, uri=line.address)
    check_nothing_left(project)


def test_away_at_the_end(
    project: Path, helper: Preloaded, line: Line, reference: dict[str, bytes]
) -> None:
    own = {"MLFLOW_TRACKING_URI": line.address}
    often = {"GAIT_STATE_INTERVAL_S": "0", "GAIT_MLFLOW_PATIENCE_S": "1"}
    process = helper.start(project, *TRAIN, **often, **own)
    wait_for(lambda: (project / STATE / "state.pt").exists(), process)
    line.cut()
    # The model is trained, whole, and a success: DVC may keep it.
    assert process.wait() == 0, process.output
    assert files(project) == reference
    said = [each for each in process.output.splitlines() if "lacks the end" in each]
    assert len(said) == 1 and "the next `gait train` or `gait repro` delivers it" in said[0]
    assert len(list((project / STATE / "undelivered").iterdir())) == 1
    line.mend()
    # Another model's training brings it along.
    helper.run(project, "train", "digits", "square", "reference", **own)
    found = [each for each in runs(project, line.address) if each.data.tags["gait.model"] == "gait"]
    assert [each.info.status for each in found] == ["FINISHED"] * 3
    check_nothing_left(project)


def test_evaluation_without_a_server(project: Path, helper: Preloaded, line: Line) -> None:
    own = {"MLFLOW_TRACKING_URI": line.address}
    for model in ("reference", "bp", "gait"):
        helper.run(project, "train", "digits", "square", model, **own)
    line.cut()
    output = helper.run(project, "evaluate", **own)
    assert "`gait repro` adds the test figures later" in output
    assert (project / "results" / "digits" / "provenance.json").is_file()
    line.mend()
    helper.run(project, "evaluate", **own)
    assert all("test_accuracy" in each.data.metrics for each in runs(project, line.address))


def test_a_locked_database(project: Path, helper: Preloaded, reference: dict[str, bytes]) -> None:
    database = project / "mlflow.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        process = helper.start(project, *TRAIN, GAIT_STATE_INTERVAL_S="0")
        wait_for(lambda: (project / STATE / "state.pt").exists(), process)
        other.execute("BEGIN EXCLUSIVE")
        wait_for(lambda: TOLD in process.output, process)
        other.execute("COMMIT")
        assert process.wait() == 0, process.output
    assert files(project) == reference
    check_one_history(project, EPOCHS)


def test_a_database_that_is_none(project: Path, helper: Preloaded) -> None:
    (project / "mlflow.db").write_bytes(b"not a database" * 1000)
    message = helper.run(project, *TRAIN, code=2)
    assert "cannot be used" in message and "Traceback" not in message


def test_tokens_stay_where_they_are(project: Path, helper: Preloaded, line: Line) -> None:
    uri = line.address.replace("://", f"://user:{SECRET}@")
    own = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_TOKEN": f"{SECRET}-2"}
    output = helper.run(project, *TRAIN, **own)
    line.cut()
    output += helper.run(project, *TRAIN, code=2, **own)
    line.mend()
    assert SECRET not in output
    for path in project.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    for run in runs(project, line.address):
        assert SECRET not in str(run.to_dictionary())
