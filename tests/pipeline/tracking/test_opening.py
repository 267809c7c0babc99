"""Stores that are opened: whose file, whose artifacts, and what is said of those that are none."""

from __future__ import annotations

import http.server
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.project.errors import GaitError
from pipeline.tracking import store
from tests.pipeline.preloaded import Preloaded
from tests.pipeline.project_copy import run

RUN = "0" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def test_a_run_of_a_store_that_is_away_is_not_called_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(GaitError, match="cannot be used") as raised:
        store.existing_run(RUN)
    assert "there is no MLflow run" not in str(raised.value)


def test_a_place_for_no_file_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not after MLflow's ten attempts, which take two minutes."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}")
    begun = time.monotonic()
    with pytest.raises(GaitError, match="is no file"):
        store.open_experiment("digits")
    assert time.monotonic() - begun < 30
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (folder / "mlflow.db").mkdir()
    with pytest.raises(GaitError, match=r"mlflow\.db is no file"):
        store.open_experiment("digits")
    # One in a folder that is not there yet is made.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'new/sub/x.db'}")
    store.open_experiment("digits")
    assert (folder / "new/sub/x.db").is_file()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", "sqlite:///{}/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///{}/mlflow.db"),
        ("sqlite:///a b/x.db", "sqlite:///{}/a b/x.db"),
        ("sqlite:////x/mlflow.db", "sqlite:////x/mlflow.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("mlruns", "{}/mlruns"),
        ("./mlruns", "{}/mlruns"),
        ("file:mlruns", "file:{}/mlruns"),
        ("file:///x/mlruns", "file:///x/mlruns"),
        ("/x/mlruns", "/x/mlruns"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
    ],
)
def test_a_relative_store_is_the_projects(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str, wanted: str
) -> None:
    """Also from DVC's temporary copies of the project."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    temporary = folder / ".dvc" / "tmp" / "exps" / "standalone" / "x"
    temporary.mkdir(parents=True)
    for place in (folder, temporary):
        monkeypatch.chdir(place)
        assert store.tracking_uri() == wanted.format(folder)


@pytest.mark.parametrize(
    "given",
    ["", "sqlite:///mlflow.db", "sqlite:///sub/x.db", "sqlite:///mlflow.db?timeout=60"],
)
def test_artifacts_are_beside_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    (folder / "sub").mkdir()
    client, number = store.open_experiment("digits")
    path = store.database()
    assert path is not None and path.is_file() and path.suffix == ".db"
    kept = (path.parent / "mlartifacts").as_uri()
    assert client.get_experiment(number).artifact_location == kept
    assert not (folder / "mlruns").exists()


def test_who_only_reads_makes_nothing(folder: Path, helper: Preloaded) -> None:
    (folder / "params.yaml").write_text((Path(__file__).parents[3] / "params.yaml").read_text())
    results = folder / "results" / "digits"
    results.mkdir(parents=True)
    (results / "x.csv").write_text("x\n")
    (results / "provenance.json").write_text(
        '{"files": {"x.csv": "0"}, "command": "", "params": "", "profile": "digits", "code": "",'
        ' "models": {"a/b/c": {"result": "0", "data": "0"}}}'
    )
    (results / "seeds.csv").write_text(
        "dataset,architecture,model,result,seed,validation_accuracy_final\n"
        "digits,square,bp,0,0,0.9\n"
    )
    before = sorted(folder.rglob("*"))
    log = folder.parent / "said.log"
    said = helper.run(folder, "provenance", "results/digits/x.csv", code=1, log=log)
    assert "no run in this MLflow store has this result" in said
    for command in (("reproduce", RUN), ("compare", RUN, RUN)):
        assert "there is no MLflow run" in helper.run(folder, *command, code=2, log=log)
    assert "train it here" in helper.run(folder, "register", code=2, log=log)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("given", ["", "sqlite:///other.db"])
def test_a_deleted_experiment_comes_back_as_is_advised(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    client, number = store.open_experiment("digits")
    client.delete_experiment(number)
    for opening in (store.open_experiment, store.existing_experiment):
        with pytest.raises(GaitError, match="the experiment digits was deleted") as refused:
            opening("digits")
    advice = str(refused.value).split("`")[1]
    assert " restore " in advice
    # Where it is not set, the advice says it itself.
    environment = {"MLFLOW_TRACKING_URI": given} if given else {}
    run(folder, "sh", "-c", advice, **environment)
    assert store.open_experiment("digits")[1] == number


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """A server that says the same of everything, and that all is well."""

    class Page(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"login": "please"}',
        b'{"experiment": {"name": "somebody\'s"}}',
        b"<html>Please log in</html>",
        b"",
        b"[]",
    ],
)
def test_a_page_to_log_in_is_no_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    with answering(body) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        for opening in (store.open_experiment, store.existing_experiment):
            with pytest.raises(GaitError, match=r"no MLflow server|cannot be used"):
                opening("digits")
        with pytest.raises(GaitError, match=r"no MLflow (server|run)|cannot be used"):
            store.existing_run(RUN)


def test_a_page_that_comes_later_takes_no_end_of_a_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request succeeds, so that only asking again shows that nothing was taken."""
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with (
        answering(b'{"login": "please"}') as address,
        pytest.raises(OSError, match="does not have it"),
    ):
        store.end_run(MlflowClient(address), "0" * 32, "FINISHED")


def test_making_a_store_says_nothing_and_tells_nobody(folder: Path) -> None:
    """In a process that has not seen MLflow, whose import already would tell."""
    code = (
        "import os; from pipeline.tracking import store; store.open_experiment('digits');"
        "assert os.environ['DO_NOT_TRACK'] == 'true'"
    )
    repository = str(Path(__file__).parents[3])
    tracked = "env", "-u", "DO_NOT_TRACK", f"PYTHONPATH={repository}"
    assert run(folder, *tracked, sys.executable, "-c", code) == ""


@pytest.mark.usefixtures("folder")
def test_a_port_that_is_none_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "postgresql://localhost:abc/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(GaitError, match=f"the MLflow store {address} cannot be used"):
        store.any_store()


@pytest.mark.timeout(60)
def test_a_database_that_refuses_is_asked_once(folder: Path, helper: Preloaded) -> None:
    """MLflow would ask it ten times, for two minutes."""
    (folder / "params.yaml").write_text((Path(__file__).parents[3] / "params.yaml").read_text())
    uri = "postgresql+psycopg://me@127.0.0.1:9/none"
    log = folder.parent / "said.log"
    said = helper.run(folder, "reproduce", RUN, code=2, log=log, MLFLOW_TRACKING_URI=uri)
    assert "refused" in said and "Traceback" not in said
