"""A trained model meets the test set; its curves over training."""

from __future__ import annotations

import numpy
import pandas

from gaitprop.losses import find_loss
from gaitprop.training import evaluate
from pipeline.data import image_tensors
from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey, data_file
from pipeline.training import history, model_files
from pipeline.training.epochs import KEPT
from pipeline.training.experiment import choose_device, training_settings
from pipeline.training.model_files import result_checksum


def evaluate_model(params: Params, key: ModelKey) -> pandas.DataFrame:
    """One row a seed: test loss and accuracy, training accuracy at its end and at its peak.

    ``result`` identifies the model's files, and is the tag of the MLflow runs that made them.
    Computes with whatever numerics were chosen before.
    """
    images = image_tensors.load(data_file(key.profile, key.dataset))
    trained_on = model_files.read_config(key.folder)["data"]["sha256"]
    if trained_on != images.checksum:
        raise GaitError(
            f"the model in {key.folder} was trained on other images of {key.dataset} (SHA-256"
            f" {trained_on}) than those here ({images.checksum}): run `gait train {key.dataset}"
            f" {key.architecture} {key.model}`, or `gait repro`"
        )
    device = choose_device(params.training.device)
    network = model_files.load_network(key.folder / model_files.NETWORK, device)
    test_images, test_labels = image_tensors.test_set(images)
    result = evaluate(
        network,
        image_tensors.for_network(test_images, device, network.dtype),
        test_labels.to(device),
        images.classes,
        images.maximum or 1,
        find_loss(params.training.loss, training_settings(params, key).output_gain),
    )
    epochs = history.read(key.folder / model_files.HISTORY)
    last = history.kept(epochs)
    peak = epochs.groupby("seed").train_accuracy.max()
    order = list(network.seeds)
    return pandas.DataFrame(
        {
            "dataset": key.dataset,
            "architecture": key.architecture,
            "model": key.model,
            "seed": order,
            "test_accuracy": result.accuracy.numpy(),
            "test_loss": result.loss.numpy(),
            "train_accuracy_final": last.train_accuracy.loc[order].to_numpy(),
            "train_accuracy_peak": peak.loc[order].to_numpy(),
            "validation_accuracy_final": last.validation_accuracy.loc[order].to_numpy(),
            # With early stopping alone: else it is the last one of all.
            **({KEPT: last.epoch.loc[order].to_numpy()} if KEPT in epochs else {}),
            "result": result_checksum(key.folder),
        }
    )


def mean_curve(key: ModelKey) -> pandas.DataFrame:
    """Means over the seeds of an epoch's losses and accuracies, for `dvc plots`."""
    epochs = history.read(key.folder / model_files.HISTORY)
    quantities = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    means = epochs.groupby("epoch")[quantities].mean().reset_index()
    # Twelve digits: the mean of a sum may differ in the last bits between pandas versions.
    means = means.round(12).replace({numpy.nan: None})
    means.insert(0, "model", str(key))
    return means
