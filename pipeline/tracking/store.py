"""The MLflow store behind a few functions.

Runs are written through the client alone: no active run, no global state, nothing that two
processes could mix up. Who needs a store that is away waits and tries again himself.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.project import environment
from pipeline.project.errors import GaitError
from pipeline.project.paths import store_folder
from pipeline.project.redaction import shown, without_password
from pipeline.project.source import Source
from pipeline.tracking import moved_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

AGAIN_S = 0.5
DATABASE = "mlflow.db"
_OWN = f"sqlite:///{DATABASE}"
_ADVICE = "; check MLFLOW_TRACKING_URI, or unset it to use a SQLite file in this folder"
KEY_TAG = "gait.result"
_RELATIVE = re.compile(r"(sqlite:///|file:|)(?!databricks|uc$)([^/:][^:]*)")
_SERVERS_OF_DATABASES = ("postgresql", "mysql", "mssql")
LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "mlflow", "dvc")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a SQLite file in the project's folder.

    A relative path is one in the project's folder: `dvc exp run --temp` deletes its own.
    """
    return _resolved(environment.given(environment.TRACKING_URI) or _OWN)


def _resolved(given: str) -> str:
    relative = _RELATIVE.fullmatch(given)
    if relative is None:
        return given
    path = store_folder() / relative[2]
    return _sqlite(path) if relative[1] == "sqlite:///" else f"{relative[1]}{path}"


def _sqlite(path: Path) -> str:
    """A file's URI, in which SQLAlchemy would take a folder's % and ? for its own: then, and only
    then, it is that from the folder in which this process works."""
    absolute = str(path)
    return f"sqlite:///{os.path.relpath(path) if {'%', '?'} & set(absolute) else absolute}"


def named_store() -> str:
    """Which store the environment names, without a password; "" for the project's own."""
    uri = tracking_uri()
    return "" if uri == _resolved(_OWN) else without_password(uri.rstrip("/"))


@contextmanager
def named() -> Iterator[None]:
    """Within the block the environment names the store: parts of MLflow look nowhere else."""
    uri, before = tracking_uri(), os.environ.get(environment.TRACKING_URI)
    os.environ[environment.TRACKING_URI] = uri
    try:
        yield
    finally:
        os.environ.pop(environment.TRACKING_URI)
        if before is not None:
            os.environ[environment.TRACKING_URI] = before


def database() -> Path | None:
    """The store's own file, where it is a SQLite one."""
    scheme, _, path = tracking_uri().partition(":///")
    # SQLAlchemy's own settings, such as timeout, come behind it.
    path = path.partition("?")[0]
    plain = scheme == "sqlite" and not re.match("$|:|file:", path)
    return Path(os.path.abspath(path)) if plain else None


def is_served() -> bool:
    """Whether the store is a server, which keeps artifacts itself."""
    return tracking_uri().startswith(("http://", "https://", "databricks"))


def artifact_folder() -> Path:
    """Where artifacts are kept, unless by a server: beside the store's file."""
    path = database()
    return (path.parent if path is not None else store_folder()) / "mlartifacts"


def open_experiment(name: str) -> tuple[MlflowClient, str]:
    """A client and the experiment's id; store and experiment are made where they do not exist.

    GaitError if the store cannot be reached or written, or the experiment was deleted.
    """
    with explained(_ADVICE):
        from mlflow.exceptions import MlflowException

        # Processes that create one SQLite store at once leave a broken schema: one at a time.
        with FileLock(store_folder() / ".mlflow.lock"):
            make_store()
            client = _client()
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                location = None if is_served() else artifact_folder().as_uri()
                try:
                    return client, client.create_experiment(name, artifact_location=location)
                except MlflowException:
                    # Another folder's process, on the same server, may have been faster.
                    experiment = client.get_experiment_by_name(name)
                    if experiment is None:
                        raise
    return client, _living(experiment, name)


def existing_experiment(name: str) -> tuple[MlflowClient, str] | None:
    """The same for those who only read: nothing is made, and None says that there is none."""
    client = existing_store()
    if client is None:
        return None
    with explained(_ADVICE):
        experiment = client.get_experiment_by_name(name)
    return (client, _living(experiment, name)) if experiment is not None else None


def existing_store() -> MlflowClient | None:
    """A client of the store, or GaitError; None if it is a file that nobody has made yet."""
    path = database()
    if path is not None and not path.exists():
        return None
    with explained(_ADVICE):
        return _client()


def any_store() -> MlflowClient:
    """A client of the store, which is made if it does not exist; GaitError if it cannot be used."""
    with explained(_ADVICE), FileLock(store_folder() / ".mlflow.lock"):
        make_store()
        return _client()


def existing_run(run_id: str) -> tuple[MlflowClient, Any]:
    """A client of the store, and a run of it; GaitError if there is no such run."""
    client = existing_store()
    if client is None:
        raise GaitError(f"there is no MLflow run {run_id!r}: no store has been made here yet")
    from mlflow.exceptions import MlflowException

    with explained(_ADVICE):
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            # Any other is the store's, which may be away: ``explained`` says that.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise GaitError(
                f"there is no MLflow run {run_id!r} ({sentence(error)}); `gait ui` shows those that"
                " there are"
            ) from None
    if run.info.run_id != run_id:
        raise GaitError(_stranger(f"the run {run_id}"))
    return client, run


def _client() -> MlflowClient:
    from mlflow import MlflowClient

    if (path := database()) is not None and path.exists() and not path.is_file():
        # MLflow would try for two minutes, without a word.
        raise GaitError(
            f"the MLflow store {shown(tracking_uri())} cannot be used ({path} is no file){_ADVICE}"
        )
    # Others' stores, of which MLFLOW_TRACKING_URI may name one, are theirs to mend.
    if path == (own := store_folder() / DATABASE):
        try:
            said = moved_store.follow(own)
        except sqlite3.OperationalError as error:
            raise GaitError(
                f"the MLflow store {own} was moved, and the places of its artifacts cannot follow"
                f" it ({error})"
            ) from None
        if said is not None:
            print(said, file=sys.stderr, flush=True)
    if tracking_uri().startswith(_SERVERS_OF_DATABASES):
        from mlflow.store.db import utils

        # It would try ten times, two minutes long and without a word.
        utils.MAX_RETRY_COUNT = 1
    # The registry too, whatever MLFLOW_REGISTRY_URI of other projects says.
    return MlflowClient(tracking_uri(), registry_uri=tracking_uri())


def _quiet() -> None:
    """MLflow's own words, waiting and telemetry as they are wanted here."""
    # It must be off before the import, which takes seconds.
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # Its own waiting for a server that is away would take minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # It would print an address for each run that ends.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # What MLflow says of the tables that it makes is no news to the user, and what it cannot do is
    # said here.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _living(experiment: Any, name: str) -> str:
    """The experiment's id; GaitError if it was deleted, or what the store said is of none."""
    number = str(experiment.experiment_id)
    if experiment.name != name or not number:
        raise GaitError(_stranger(f"the experiment {name}"))
    if experiment.lifecycle_stage == "deleted":
        given = environment.given(environment.TRACKING_URI)
        where = "" if given else f"MLFLOW_TRACKING_URI={shlex.quote(tracking_uri())} "
        raise GaitError(
            f"the experiment {name} was deleted in MLflow, and its runs with it: bring them back"
            f" with `{where}mlflow experiments restore --experiment-id {number}`"
        )
    return number


def _stranger(asked: str) -> str:
    """What is said of a page to log in, say, which a proxy gives in any server's place."""
    return (
        f"what answers at {shown(tracking_uri())} is no MLflow server: asked for {asked}, it says"
        " nothing of it; log in there, or check MLFLOW_TRACKING_URI"
    )


@contextmanager
def explained(advice: str = "") -> Iterator[None]:
    """What is done with MLflow: in quiet, and with one sentence where it cannot be done.

    That is a GaitError in place of any exception: clients of stores raise of their own, too, and a
    package that they need may be missing, such as psycopg or boto3.
    """
    _quiet()
    try:
        yield
    except GaitError:
        raise
    except Exception as error:
        raise GaitError(
            f"the MLflow store {shown(tracking_uri())} cannot be used ({sentence(error)}){advice}"
        ) from error


def twice(send: Callable[[], None], forget: Callable[[], None] = lambda: None) -> None:
    """Sends once more what the store refuses, after a moment.

    Where another process makes the same row at the same moment, MLflow refuses the slower one; now
    the row is there, as ``send`` finds out once ``forget`` was called.
    """
    try:
        send()
    except Exception:
        forget()
        time.sleep(AGAIN_S)
        send()


def make_store() -> None:
    """MLflow's tables, made aside: a kill while they are being made would leave them broken."""
    path = database()
    if path is None or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    partial = path.with_name(f".{path.name}.tmp")
    partial.unlink(missing_ok=True)
    # MLflow writes the place of its own experiment's artifacts into SQL as it stands: an escaped
    # one has no quotes.
    SqlAlchemyStore(_sqlite(partial), artifact_folder().as_uri())  # type: ignore[no-untyped-call]
    partial.replace(path)


def log_metrics(client: MlflowClient, run: str, values: Mapping[str, float], step: int) -> None:
    """A few more metrics of a run that has ended."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(run, [Metric(key, value, now, step) for key, value in values.items()])


def end_run(client: MlflowClient, run_id: str, status: str, ended_ms: int | None = None) -> None:
    """Ends a run, and asks whether it has ended: what answers may be a page to log in by now.

    OSError if the store says otherwise.
    """
    client.set_terminated(run_id, status, end_time=ended_ms)
    if client.get_run(run_id).info.status != status:
        raise OSError(f"it took the end of run {run_id}, and does not have it")


def find_runs(client: MlflowClient, experiment_id: str, result: str) -> list[Any]:
    """The newest finished parent run that made a result, and its seed runs; none if unknown here.

    A result is the checksum under which training tagged its runs.
    """
    wanted = f"tags.`{KEY_TAG}` = '{result}' and attributes.status = 'FINISHED'"
    parents = client.search_runs(
        [experiment_id],
        f"{wanted} and tags.`gait.level` = 'model'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return [parents[0], *nested_runs(client, parents[0])] if parents else []


def known_run(profile: str, result: str) -> Any | None:
    """The parent run of ``find_runs`` in a profile's experiment, where this store has one."""
    opened = existing_experiment(profile)
    if opened is None:
        return None
    with explained():
        return next(iter(find_runs(*opened, result)), None)


def nested_runs(client: MlflowClient, parent: Any) -> list[Any]:
    """The runs of a model's seeds."""
    wanted = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    return list(client.search_runs([parent.info.experiment_id], wanted, max_results=1000))


def provenance_tags(source: Source, data_checksum: str, device: str) -> dict[str, str]:
    """What a result depends on beside its parameters: commit, data, versions, machine."""
    return {
        "git.commit": source.commit,
        "git.clean": str(source.clean).lower(),
        "git.code_clean": str(source.code_clean).lower(),
        "mlflow.source.git.commit": source.commit,
        "data.sha256": data_checksum,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": device,
        "version.python": platform.python_version(),
        **{f"version.{library}": version(library) for library in LIBRARIES},
    }


def sentence(error: BaseException) -> str:
    """The first line of what an error says, without what may be a token.

    Of a database's error the first line that is its own: SQLAlchemy's may come before it.
    """
    lines = without_password(str(error)).strip().splitlines()
    own = (line for line in lines if "(raised as a result of" not in line)
    return next(own, type(error).__name__)
