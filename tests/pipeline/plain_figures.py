"""Figures of trained networks by plain lines that share no code with library or pipeline."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy
import safetensors.numpy


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file's, as texts."""
    with path.open() as file:
        return list(csv.DictReader(file))


def on_test_images(project: Path, model: Path, seed: int) -> tuple[float, float]:
    """Accuracy and loss of a seed's network on the digits' 360 test images."""
    images = _images(project)
    assert len(images["test_images"]) == 360
    return _figures(_outputs(model, seed, images["test_images"]), images["test_labels"])


def on_held_out_images(project: Path, model: Path, seed: int) -> tuple[float, float]:
    """The same on the training images that the model's config.json says are held out."""
    images = _images(project)
    split = json.loads((model / "config.json").read_text())["data"]
    order = numpy.random.default_rng(split["split_seed"]).permutation(1437)
    held_out = order[: round(split["validation_fraction"] * 1437)]
    answers = _outputs(model, seed, images["train_images"][held_out])
    return _figures(answers, images["train_labels"][held_out])


def _images(project: Path) -> dict[str, numpy.ndarray]:
    return dict(safetensors.numpy.load_file(project / "data" / "digits" / "digits.safetensors"))


def _outputs(model: Path, seed: int, images: numpy.ndarray) -> numpy.ndarray:
    """What a seed's saved network says of images, in float64."""
    tensors = safetensors.numpy.load_file(model / "network.safetensors")
    values = images / 16
    for layer in range(1, len(tensors) // 2 + 1):
        weight = tensors[f"weight_{layer}"][seed].astype(float)
        values = values @ weight.T + tensors[f"bias_{layer}"][seed].reshape(-1)
        values = numpy.where(values > 0, values, 0.1 * values)
    return values[:, :10]


def _figures(answers: numpy.ndarray, labels: numpy.ndarray) -> tuple[float, float]:
    """Accuracy, and the mean of half the squared error."""
    accuracy = (answers.argmax(1) == labels).mean()
    return float(accuracy), float(((answers - numpy.eye(10)[labels]) ** 2).sum() / 2 / len(labels))
