"""The paper's own network on MNIST, with its own settings; needs torch and NumPy alone.

    python examples/published_mnist.py OUTPUT.json --archives data/archives/MNIST/raw

Five layers of 784 units, batches of 60, Adam at a constant 0.0001 (Ahmad, van Gerven, Ambrogioni,
arXiv 2006.06438): BP; BP and GAIT-prop with λ = 0.1; TP with its own settings. It is what
profiles/paper.yaml says of MNIST and the square network, on machines that have no DVC or MLflow. A
model that OUTPUT.json has is not trained again; docs/results_published.md has the table that is
printed at the end.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaitprop import ArgumentError, InvertibleNetwork
from gaitprop.training import TrainingData, TrainingSettings, evaluate, make_optimizer, train

MODELS = {
    "BP reference": {"rule": "bp", "learning_rate": 1e-4, "orthogonality": 0.0},
    "BP": {"rule": "bp", "learning_rate": 1e-4, "orthogonality": 0.1},
    "GAIT-prop": {"rule": "gait", "learning_rate": 1e-4, "orthogonality": 0.1, "gamma": 1e-3},
    "TP": {"rule": "tp", "learning_rate": 1e-5, "orthogonality": 1000.0},
}
WIDTHS = [784] * 6
VALIDATION, SPLIT_SEED = 5000, 0
COMMON = {"batch_size": 60, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "probe_size": 128}


def main(arguments: list[str] | None = None) -> None:
    """Trains what the output does not have yet, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="the JSON file to write, or to add to")
    parser.add_argument("--archives", type=Path, required=True, help="where MNIST's .gz files are")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (ArgumentError, OSError, EOFError, ValueError) as error:
        parser.error(str(error))


def run(options: argparse.Namespace) -> None:
    """As the command line says.

    Raises:
        ArgumentError, OSError, EOFError, ValueError: something that it names is not as it should.
    """
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device: received {device}, which is not here; allowed: cpu")
    how = {"epochs": options.epochs, "seeds": options.seeds, "machine": machine(device)}
    document: dict[str, Any] = {**how, "models": {}}
    if options.output.exists():
        document = json.loads(options.output.read_text())
        if {name: document[name] for name in how} != how:
            raise ValueError(f"{options.output} has other epochs or seeds, or another machine's")
    data, test_images, test_labels = mnist(options.archives, device)
    for name in options.models:
        if name not in document["models"]:
            model = train_model(name, data, test_images, test_labels, options.epochs, options.seeds)
            document["models"][name] = model
            write(options.output, document)
    print(table(document))


def train_model(
    name: str,
    data: TrainingData,
    test_images: Tensor,
    test_labels: Tensor,
    epochs: int,
    seeds: list[int],
) -> dict[str, Any]:
    """One row: settings, test results of every seed after the last epoch, and each epoch's."""
    settings = TrainingSettings(
        **MODELS[name], **COMMON, epochs=epochs, diagnostics_interval=epochs
    )
    network = InvertibleNetwork(WIDTHS, seeds=seeds, device=data.images.device)
    began, history, last = time.perf_counter(), [], None
    for last in train(network, make_optimizer(network, settings), data, settings):
        took = time.perf_counter() - began
        print(f"{name}, epoch {last.epoch} of {epochs}, {took:.0f} s", file=sys.stderr, flush=True)
        validation = last.validation.accuracy
        history.append({"epoch": last.epoch, "validation_accuracy": validation.tolist()})
        if last.training is not None:
            history[-1]["training_accuracy"] = last.training.accuracy.tolist()
    test = evaluate(network, test_images, test_labels, data.n_classes)
    return {
        "settings": MODELS[name],
        "test_accuracy": test.accuracy.tolist(),
        "test_loss": test.loss.tolist(),
        "bp_cosine": last.diagnostics.bp_cosine.tolist(),
        "bp_relative_norm": last.diagnostics.bp_relative_norm.tolist(),
        "seconds": took,
        "history": history,
    }


def mnist(archives: Path, device: torch.device) -> tuple[TrainingData, Tensor, Tensor]:
    """Training and validation as the pipeline splits them; test images and labels."""
    images, labels, test_images, test_labels = (
        read_idx(archives / f"{part}.gz")
        for part in (
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        )
    )
    order = torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(len(images)))
    held_out, kept = order[:VALIDATION], order[VALIDATION:]
    rows, labels = images.flatten(1), labels.long()
    data = TrainingData(
        *(each.to(device) for each in (rows[kept], labels[kept], rows[held_out], labels[held_out])),
        n_classes=10,
    )
    return data, test_images.flatten(1).to(device), test_labels.long().to(device)


def read_idx(path: Path) -> Tensor:
    """A file of unsigned bytes as MNIST's page describes it: magic number, sizes, values."""
    content = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])
    return torch.from_numpy(values.reshape(sizes).copy())


def machine(device: torch.device) -> dict[str, str]:
    """Where the models are trained, and with what."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def table(document: dict[str, Any]) -> str:
    """In Markdown; ± is the sample standard deviation over seeds, differences are paired."""
    lines = [
        "| model | learning rate | λ | seeds | test accuracy | difference to BP reference"
        " | test loss | cosine of the first layer's update to BP's | minutes |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    models = document["models"]
    reference = models.get("BP reference")
    for name, model in models.items():
        accuracies, settings = model["test_accuracy"], model["settings"]
        difference = "–"
        if reference is not None and model is not reference:
            pairs = zip(accuracies, reference["test_accuracy"], strict=True)
            difference = spread([100 * (ours - theirs) for ours, theirs in pairs], "+.2f", 2)
        cells = [
            *(name, f"{settings['learning_rate']:g}", f"{settings['orthogonality']:g}"),
            str(len(accuracies)),
            spread([100 * each for each in accuracies], ".2f", 2),
            *(difference, spread(model["test_loss"], ".4f", 4)),
            spread([layers[0] for layers in model["bp_cosine"]], ".3f", 3),
            f"{model['seconds'] / 60:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], form: str, digits: int) -> str:
    """Mean ± sample standard deviation."""
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):{form}}{deviation}"


def write(path: Path, document: dict[str, Any]) -> None:
    """What was there stays whole until all of the new is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    os.replace(new, path)


if __name__ == "__main__":
    main()
