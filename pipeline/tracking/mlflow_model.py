"""A finished training as a model of MLflow's: to load, to serve and to register.

Like the runs it may be sent again and again: the store is asked what it has, and gets the rest.
"""

from __future__ import annotations

import logging
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from pipeline.data.image_sets import image_set
from pipeline.tracking import run_metrics
from pipeline.training import model_files
from pipeline.training.epochs import KEPT, kept

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric

    from pipeline.training.training_record import Training

CODE = Path(__file__).with_name("served_model.py")
# All that the code imports; MLflow would find that out by running the model, in seconds.
LIBRARIES = ("mlflow", "numpy", "safetensors")


def send(client: MlflowClient, experiment_id: str, run_id: str, training: Training) -> None:
    """Makes the model the run's, whole; nothing happens where the store has it already.

    The run is the parent of a training that is finished, whose folder holds the model that it made.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    model = of_run(client, experiment_id, run_id)
    if model is None:
        model = client.create_logged_model(
            experiment_id,
            name=training.name.replace("/", "-"),
            source_run_id=run_id,
            tags={**training.tags, **training.outcome},
            params={name: str(value) for name, value in training.parameters.items()},
            model_type="classifier",
        )
    if model.status != LoggedModelStatus.READY:
        with tempfile.TemporaryDirectory(prefix="gait-") as temporary:
            folder = Path(temporary) / "model"
            save(folder, Path(training.folder), str(model.model_id))
            client.log_model_artifacts(model.model_id, str(folder))
        client.log_batch(run_id, metrics=_final_figures(training, str(model.model_id)))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if outputs is None or not outputs.model_outputs:
        last = training.epochs[-1].epoch
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, last)])


def of_run(client: MlflowClient, experiment_id: str, run_id: str) -> LoggedModel | None:
    """The model that a run has made, as far as it has arrived."""
    wanted = f"source_run_id = '{run_id}'"
    return next(iter(client.search_logged_models([experiment_id], wanted, max_results=1)), None)


def save(destination: Path, model: Path, model_id: str | None = None) -> None:
    """Writes the model in a folder of training's to one that does not exist yet, as MLflow has it.

    The id is that under which the store knows it.
    """
    from mlflow import pyfunc
    from mlflow.models import Model, infer_signature

    config = model_files.read_config(model)
    images = image_set(config["dataset"])
    example = numpy.linspace(0, 1, images.inputs, dtype=numpy.float32)[None]
    classes = numpy.zeros(len(example), dtype=numpy.int64)
    # It would tell of each step.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    pyfunc.save_model(
        destination,
        python_model=CODE,
        artifacts={"network": str(model / model_files.NETWORK)},
        model_config={"classes": images.classes},
        pip_requirements=[f"{library}=={version(library)}" for library in LIBRARIES],
        signature=infer_signature(example, classes, {"seed": config["training"]["seeds"][0]}),
        input_example=example,
        mlflow_model=Model(model_id=model_id),
    )


def _final_figures(training: Training, model_id: str) -> list[Metric]:
    """What MLflow's page of models compares: means over the seeds, of the weights that are kept."""
    from mlflow.entities import Metric

    last = kept(training.epochs)
    # Those of the last epoch the run has already: the same points, to the model now.
    prefix = run_metrics.KEPT_PREFIX if KEPT in training.epochs[-1].rows[0] else ""
    return [
        Metric(f"{prefix}{name}", last.mean(name), last.ended_ms, last.epoch, model_id=model_id)
        for name in run_metrics.OF_KEPT
    ]
