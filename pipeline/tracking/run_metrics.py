"""One run in the MLflow store, and how what it lacks is sent.

Whatever is sent twice is the same: figures carry their epoch's own time, so that they are the same
points of a curve, and an epoch is sent only if its last metric is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.tracking.run_descriptions import chart_name
from pipeline.tracking.store import end_run
from pipeline.training.epochs import KEPT, RUNNING, Epoch, kept

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

LEVEL_TAG, FAILURE_TAG = "gait.level", "gait.failure"
# Sent last of an epoch: where this metric is, the epoch is complete.
LAST_METRIC = "validation_accuracy"
# Before the names of figures of the weights that early stopping keeps.
KEPT_PREFIX = "kept_"
OF_KEPT = ("train_accuracy", "train_loss", "validation_accuracy", "validation_loss")
RUNS_A_PAGE = 1000
# An MLflow request holds at most 1,000 metrics, and 100 parameters or tags.
METRICS_A_REQUEST = 1000
LONGEST_TAG = 8000
LONGEST_NAME = 250
"""PostgreSQL refuses a run with a longer tag or name; MLflow asks it, and SQLite takes anything."""


@dataclass
class StoredRun:
    """A run in the store; its steps are unknown (None) until they have been asked for."""

    run_id: str
    status: str
    described: bool
    steps: set[int] | None


def search(
    client: MlflowClient, experiment_id: str, wanted: str, level: Callable[[Run], str]
) -> dict[str, StoredRun]:
    """All runs of a search, by the name that ``level`` reads from them."""
    runs: dict[str, StoredRun] = {}
    for each in all_runs(client, experiment_id, wanted):
        steps: set[int] | None = None if LAST_METRIC in each.data.metrics else set()
        runs[level(each)] = StoredRun(
            each.info.run_id, each.info.status, bool(each.data.params), steps
        )
    return runs


def all_runs(
    client: MlflowClient, experiment_id: str, wanted: str, order_by: list[str] | None = None
) -> Iterator[Run]:
    """All runs of a search, which MLflow answers by the page."""
    token: str | None = ""
    while token is not None:
        page = client.search_runs(
            [experiment_id], wanted, max_results=RUNS_A_PAGE, order_by=order_by, page_token=token
        )
        yield from page
        token = page.token or None


def create(
    client: MlflowClient, experiment_id: str, name: str, started_ms: int, tags: Mapping[str, str]
) -> StoredRun:
    """A new run, without parameters yet.

    What is too long of a tag is cut off; of a name the middle is left out, since its end tells the
    seeds of a model apart.
    """
    short = {
        tag: text if len(text) <= LONGEST_TAG else f"{text[: LONGEST_TAG - 1]}…"
        for tag, text in tags.items()
    }
    if len(name) > LONGEST_NAME:
        end = name[-LONGEST_NAME // 5 :]
        name = f"{name[: LONGEST_NAME - len(end) - 1]}…{end}"
    run = client.create_run(experiment_id, start_time=started_ms, run_name=name, tags=short)
    return StoredRun(str(run.info.run_id), RUNNING, described=False, steps=set())


def describe(client: MlflowClient, run: StoredRun, parameters: Mapping[str, Any]) -> None:
    """Sends the parameters."""
    from mlflow.entities import Param

    client.log_batch(run.run_id, params=[Param(k, str(v)) for k, v in parameters.items()])
    run.described = True


def reopen(client: MlflowClient, run: StoredRun) -> None:
    """A run that had ended goes on, and no longer says what had ended it."""
    if run.status != RUNNING:
        if FAILURE_TAG in client.get_run(run.run_id).data.tags:
            client.delete_tag(run.run_id, FAILURE_TAG)
        client.update_run(run.run_id, status=RUNNING)
        run.status = RUNNING


def send_epochs(
    client: MlflowClient, run: StoredRun, epochs: Sequence[Epoch], row: int | None = None
) -> None:
    """Sends what the run lacks of the epochs' figures: a seed's row of them, or the means."""
    if run.steps is None:
        run.steps = {point.step for point in client.get_metric_history(run.run_id, LAST_METRIC)}
    missing = [epoch for epoch in epochs if epoch.epoch not in run.steps]
    metrics = [
        metric
        for epoch in missing
        for metric in _metrics(epoch.means() if row is None else epoch.rows[row], epoch)
    ]
    for start in range(0, len(metrics), METRICS_A_REQUEST):
        client.log_batch(run.run_id, metrics=metrics[start : start + METRICS_A_REQUEST])
    run.steps |= {epoch.epoch for epoch in missing}


def end(
    client: MlflowClient,
    run: StoredRun,
    status: str,
    ended_ms: int | None,
    tags: Mapping[str, str],
    metrics: Sequence[Metric],
) -> None:
    """Ends the run with MLflow's status, and tags and figures of its end, unless it has that."""
    from mlflow.entities import RunTag

    if run.status == status:
        return
    if tags or metrics:
        told = [RunTag(name, value) for name, value in tags.items()]
        client.log_batch(run.run_id, metrics=metrics, tags=told)
    end_run(client, run.run_id, status, ended_ms)
    run.status = status


def of_kept(epochs: Sequence[Epoch], row: int | None = None) -> list[Metric]:
    """Figures of the kept weights, a seed's row or the means; none without early stopping."""
    if KEPT not in epochs[-1].rows[0]:
        return []
    best = kept(epochs)
    figures = best.means() if row is None else best.rows[row]
    return [
        metric(f"{KEPT_PREFIX}{name}", figures[name], best.ended_ms, best.epoch) for name in OF_KEPT
    ]


def metric(name: str, value: float, time_ms: int, step: int) -> Metric:
    """A point of a curve."""
    from mlflow.entities import Metric

    return Metric(name, value, time_ms, step)


def _metrics(figures: Mapping[str, float], epoch: Epoch) -> list[Metric]:
    names = [name for name in figures if name not in ("epoch", "seed", LAST_METRIC)]
    return [
        metric(chart_name(name), figures[name], epoch.ended_ms, epoch.epoch)
        for name in [*names, LAST_METRIC]
    ]
