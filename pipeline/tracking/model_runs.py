"""The MLflow runs of one training: a parent of the model, and nested in it one run a seed.

``send`` may be called again and again, by whichever process: it asks the store what is there and
sends the difference. So there is one parent run a training, with every step once.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tracking import mlflow_model, run_metrics, run_view
from pipeline.tracking.run_descriptions import (
    COLOUR_TAG,
    NOTE_TAG,
    colour_of,
    data_of,
    describe_experiment,
    of_profile,
    of_training,
    run_name,
)
from pipeline.tracking.run_metrics import LEVEL_TAG, StoredRun
from pipeline.tracking.store import KEY_TAG
from pipeline.training import history, model_files
from pipeline.training.epochs import FINISHED, KILLED, RUNNING
from pipeline.training.model_files import result_checksum
from pipeline.training.training_record import Training

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRAINING_TAG, SEED_TAG = "gait.training", "gait.seed"
DURATION = "duration_s"
MODEL = "model"


class ModelRuns:
    """The runs of one training in one store.

    The parent holds the means over the seeds; a child holds one seed's figures under the same
    metric names, so that the UI compares either.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client, self._experiment_id = client, experiment_id
        self._runs: dict[str, StoredRun] | None = None

    def forget(self) -> None:
        """After a failure nobody knows what arrived: the store is asked before the next sending."""
        self._runs = None

    def send(self, training: Training) -> None:
        """Makes the runs what the record says; raises what MLflow does where the store refuses."""
        if self._runs is None:
            text, view = of_profile(training.experiment), run_view.of_profile()
            describe_experiment(self._client, self._experiment_id, text, view)
            self._runs = run_metrics.search(
                self._client,
                self._experiment_id,
                f"tags.`{TRAINING_TAG}` = '{training.id}'",
                lambda run: str(run.data.tags.get(SEED_TAG, MODEL)),
            )
        parent = self._begun(training)
        children = [self._begun(training, seed, parent.run_id) for seed in training.seeds]
        run_metrics.send_epochs(self._client, parent, training.epochs)
        for row, child in enumerate(children):
            run_metrics.send_epochs(self._client, child, training.epochs, row)
        if training.warning is not None:
            self._client.set_tag(parent.run_id, "gait.warning", training.warning)
        if training.status != RUNNING:
            self._end(parent, children, training)

    def _begun(self, training: Training, seed: int | None = None, parent_id: str = "") -> StoredRun:
        """The run of a seed, or the parent of all: made, described, open if training goes on."""
        assert self._runs is not None
        key = MODEL if seed is None else str(seed)
        run = self._runs.get(key)
        if run is None:
            name = run_name(training)
            if seed is None:
                own = {LEVEL_TAG: MODEL, NOTE_TAG: of_training(training)}
            else:
                name = f"{name}, seed {seed}"
                own = {LEVEL_TAG: "seed", SEED_TAG: key, "mlflow.parentRunId": parent_id}
            run = self._runs[key] = run_metrics.create(
                self._client,
                self._experiment_id,
                name,
                training.started_ms,
                {
                    **training.tags,
                    **own,
                    TRAINING_TAG: training.id,
                    COLOUR_TAG: colour_of(training.tags["gait.model"]),
                },
            )
        if not run.described:
            self._client.log_inputs(run.run_id, [data_of(training)])
            seeds = {"seeds": training.seeds} if seed is None else {"seed": seed}
            run_metrics.describe(self._client, run, {**training.parameters, **seeds})
        if run.status != training.status:
            run_metrics.reopen(self._client, run)
        return run

    def _end(self, parent: StoredRun, children: list[StoredRun], training: Training) -> None:
        duration = []
        if training.status == FINISHED:
            self._log_folder(parent.run_id, training)
            assert training.ended_ms is not None
            # Of what was trained elsewhere it is not known. Who was killed after it was sent is
            # not to send it once more.
            if training.seconds and not self._client.get_metric_history(parent.run_id, DURATION):
                duration = [run_metrics.metric(DURATION, training.seconds, training.ended_ms, 0)]
        if parent.status != training.status:
            self._client.set_tag(parent.run_id, NOTE_TAG, of_training(training))
        for row, run in [*enumerate(children), (None, parent)]:
            figures = duration if run is parent else []
            if training.status == FINISHED:
                figures = [*figures, *run_metrics.of_kept(training.epochs, row)]
            run_metrics.end(
                self._client, run, training.status, training.ended_ms, training.outcome, figures
            )

    def _log_folder(self, run_id: str, training: Training) -> None:
        folder = Path(training.folder)
        # Whoever trained this model anew since has replaced the files.
        if not holds(folder, training.outcome[KEY_TAG]):
            said = f"{folder} holds another model by now: this one's files are lost"
            self._client.set_tag(run_id, "gait.warning", said)
            return
        # matplotlib is slow to import, and only needed once training is done.
        from pipeline import figures

        self._client.log_artifacts(run_id, str(folder))
        curves = figures.model_curves(history.read(folder / model_files.HISTORY), training.name)
        self._client.log_figure(run_id, curves, "curves.svg")
        mlflow_model.send(self._client, self._experiment_id, run_id, training)


def holds(folder: Path, result: str) -> bool:
    """Whether a model's folder is there, and has the files of that checksum."""
    with suppress(FileNotFoundError):
        return result_checksum(folder) == result
    return False


def abandon(client: MlflowClient, experiment_id: str, training_id: str) -> int:
    """Ends the runs of a training that nobody goes on with; how many there were."""
    wanted = f"tags.`{TRAINING_TAG}` = '{training_id}' and attributes.status = '{RUNNING}'"
    found = client.search_runs([experiment_id], wanted, max_results=1000)
    for run in found:
        client.set_terminated(run.info.run_id, KILLED)
    return len(found)
