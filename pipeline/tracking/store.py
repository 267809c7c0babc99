"""The MLflow store behind a few functions.

Runs are written through the client alone: no active run, no global state, nothing that two
processes could mix up. Who needs a store that is away waits and tries again himself.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.project import variables
from pipeline.project.errors import GaitError
from pipeline.project.paths import store_folder
from pipeline.project.redaction import shown, without_password
from pipeline.project.source import Source

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# An MLflow request holds at most 1,000 metrics, and 100 parameters or tags.
METRICS_A_REQUEST = 1000
DATABASE = "mlflow.db"
KEY_TAG = "gait.result"
LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "mlflow", "dvc")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a SQLite file in the project's folder."""
    return variables.given(variables.TRACKING_URI) or f"sqlite:///{store_folder() / DATABASE}"


def artifact_folder() -> Path:
    """Where the default store keeps artifacts."""
    return store_folder() / "mlartifacts"


def open_experiment(name: str) -> tuple[MlflowClient, str]:
    """A client and the experiment's id; store and experiment are made where they do not exist.

    Raises:
        GaitError: the store cannot be reached or written.
    """
    # MLflow's import takes seconds, and its telemetry must be off before it.
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # Its own waiting for a server that is away would take minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # It would print an address for each run that ends.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    # What MLflow says of the tables that it makes is no news to the user, and what it cannot do is
    # said here.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    uri = tracking_uri()
    local = uri.startswith("sqlite:///") and variables.given(variables.TRACKING_URI) is None
    try:
        # Processes that create one SQLite store at once leave a broken schema: one at a time.
        with FileLock(store_folder() / ".mlflow.lock"):
            if local:
                make_store(store_folder() / DATABASE)
            client = MlflowClient(uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is not None:
                return client, experiment.experiment_id
            location = artifact_folder().as_uri() if local else None
            try:
                return client, client.create_experiment(name, artifact_location=location)
            except MlflowException:
                # Another folder's process, on the same server, may have been faster.
                experiment = client.get_experiment_by_name(name)
                if experiment is None:
                    raise
                return client, experiment.experiment_id
    except store_errors() as error:
        raise GaitError(
            f"the MLflow store {shown(uri)} cannot be used"
            f" ({sentence(error)}); check MLFLOW_TRACKING_URI, or unset it to"
            " use a SQLite file in this folder"
        ) from None


def store_errors() -> tuple[type[Exception], ...]:
    """What is raised where a store cannot be reached, read or written."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # A package that the store's client needs may be missing: psycopg, boto3.
    return MlflowException, SQLAlchemyError, OSError, ImportError


@contextmanager
def explained() -> Iterator[None]:
    """Turns what a store that cannot be written raises into one sentence.

    Raises:
        GaitError: in place of any exception: clients of stores raise of their own, too.
    """
    try:
        yield
    except GaitError:
        raise
    except Exception as error:
        raise GaitError(
            f"the MLflow store {shown(tracking_uri())} cannot be used ({sentence(error)})"
        ) from (None if isinstance(error, store_errors()) else error)


def make_store(path: Path) -> None:
    """MLflow's tables, made aside: a kill while they are being made would leave them broken."""
    if path.exists():
        return
    from mlflow import MlflowClient

    partial = path.with_name(f".{path.name}.tmp")
    partial.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
    partial.replace(path)


def log_metrics(client: MlflowClient, run: str, values: Mapping[str, float], step: int) -> None:
    """A few more metrics of a run that has ended."""
    client.log_batch(run, metrics=_metrics(values, step))


def _metrics(values: Mapping[str, float], step: int) -> list[Metric]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(key, value, now, step) for key, value in values.items()]


def find_runs(client: MlflowClient, experiment_id: str, result: str) -> list[Any]:
    """The newest finished parent run that made a result, and its seed runs; none if unknown here.

    Args:
        result: the checksum under which training tagged its runs.
    """
    wanted = f"tags.`{KEY_TAG}` = '{result}' and attributes.status = 'FINISHED'"
    parents = client.search_runs(
        [experiment_id],
        f"{wanted} and tags.`gait.level` = 'model'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not parents:
        return []
    children = client.search_runs(
        [experiment_id],
        f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'",
        max_results=1000,
    )
    return [parents[0], *children]


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
    """The first line of what an error says, without what may be a token."""
    said = without_password(str(error)).strip()
    return said.splitlines()[0] if said else type(error).__name__
