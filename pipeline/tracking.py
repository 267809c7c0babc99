"""MLflow behind a few functions: one parent run a model, one nested run a seed.

Runs are written through the client alone: no active run, no global state, nothing that two
processes could mix up.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import socket
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.errors import GaitError
from pipeline.project import Source, store_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# An MLflow request holds at most 1,000 metrics, and 100 parameters or tags.
METRICS_A_REQUEST = 1000
# Short epochs are sent together: a request costs as much for one metric as for a hundred.
FLUSH_S = 5.0
KEY_TAG = "gait.result"
LIBRARIES = ("torch", "torchvision", "numpy", "scikit-learn", "mlflow", "dvc")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a SQLite file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_folder() / 'mlflow.db'}"


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
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    # What MLflow says of the tables that it makes is no news to the user.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    uri = tracking_uri()
    local = uri.startswith("sqlite:///") and "MLFLOW_TRACKING_URI" not in os.environ
    try:
        # Processes that create one SQLite store at once leave a broken schema: one at a time.
        with FileLock(store_folder() / ".mlflow.lock"):
            client = MlflowClient(uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is not None:
                return client, experiment.experiment_id
            location = artifact_folder().as_uri() if local else None
            return client, client.create_experiment(name, artifact_location=location)
    except (MlflowException, OSError) as error:
        raise GaitError(
            f"the MLflow store {without_password(uri)} cannot be used"
            f" ({without_password(_first_line(error))}); check MLFLOW_TRACKING_URI, or unset it to"
            " use a SQLite file in this folder"
        ) from None


class ModelRuns:
    """The MLflow runs of one model in training: the parent and one child a seed.

    The parent holds the means over the seeds; a child holds one seed's figures under the same
    metric names, so that the UI compares either.
    """

    def __init__(
        self,
        experiment: str,
        name: str,
        seeds: Sequence[int],
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> None:
        self._client, experiment_id = open_experiment(experiment)
        self._seeds = tuple(seeds)
        self._parent = self._start(experiment_id, name, {**tags, "gait.level": "model"})
        self._children = [
            self._start(
                experiment_id,
                f"{name} seed {seed}",
                {**tags, "gait.level": "seed", "mlflow.parentRunId": self._parent},
            )
            for seed in seeds
        ]
        self._log_parameters(self._parent, {**parameters, "seeds": list(seeds)})
        for seed, child in zip(seeds, self._children, strict=True):
            self._log_parameters(child, {**parameters, "seed": seed})
        self._pending: dict[str, list[Metric]] = {}
        self._flushed = time.monotonic()

    def log_epoch(self, rows: Sequence[Mapping[str, float]]) -> None:
        """One epoch's rows, a seed each (see ``pipeline.history``)."""
        quantities = [key for key in rows[0] if key not in ("epoch", "seed")]
        epoch = int(rows[0]["epoch"])
        means = {key: sum(row[key] for row in rows) / len(rows) for key in quantities}
        self._add(self._parent, means, epoch)
        for child, row in zip(self._children, rows, strict=True):
            self._add(child, {key: row[key] for key in quantities}, epoch)
        if time.monotonic() - self._flushed >= FLUSH_S:
            self._flush()

    def warn(self, text: str) -> None:
        """What a reader of the run should know, as a tag of the parent run."""
        self._client.set_tag(self._parent, "gait.warning", text)

    def log_folder(self, folder: Path) -> None:
        """The folder's files as artifacts of the parent run."""
        self._client.log_artifacts(self._parent, str(folder))

    def log_figure(self, figure: Any, name: str) -> None:
        """A matplotlib figure as an artifact of the parent run."""
        self._client.log_figure(self._parent, figure, name)

    def finish(self, status: str, tags: Mapping[str, str], seconds: float) -> None:
        """Ends every run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        self._add(self._parent, {"duration_s": seconds}, 0)
        self._flush()
        for run in [*self._children, self._parent]:
            for key, value in tags.items():
                self._client.set_tag(run, key, value)
            self._client.set_terminated(run, status)

    def _start(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(experiment_id, run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    def _log_parameters(self, run: str, parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(run, params=[Param(k, str(v)) for k, v in parameters.items()])

    def _add(self, run: str, values: Mapping[str, float], step: int) -> None:
        self._pending.setdefault(run, []).extend(_metrics(values, step))

    def _flush(self) -> None:
        for run, metrics in self._pending.items():
            for start in range(0, len(metrics), METRICS_A_REQUEST):
                self._client.log_batch(run, metrics=metrics[start : start + METRICS_A_REQUEST])
        self._pending.clear()
        self._flushed = time.monotonic()


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
        "mlflow.source.git.commit": source.commit,
        "data.sha256": data_checksum,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "device": device,
        "version.python": platform.python_version(),
        **{f"version.{library}": version(library) for library in LIBRARIES},
    }


def without_password(text: str) -> str:
    """The text with its addresses shown from the host on: what is before may be a token."""
    return re.sub(r"(\w+://)[^/\s@]*@", r"\1", text)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
