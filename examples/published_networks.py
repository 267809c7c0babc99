"""The paper's own networks, with their own settings; needs torch and NumPy alone.

    python examples/published_networks.py my.json --archives data/archives/MNIST/raw

The square one has five layers of 784 units, the tower four of 784, 500, 200 and 10; batches of 60,
Adam at a constant 0.0001 (Ahmad, van Gerven, Ambrogioni, arXiv 2006.06438): BP; GAIT-prop with
λ = 0.1, and BP with it, its control; TP with its own settings. They are those of
profiles/paper.yaml, for machines that have no DVC or MLflow. All weights start orthogonal, as by
the published commands, but for those models that are "Gaussian", as the code of June 2020 starts
if λ > 0. Not of the paper, but with all else as it is there: BP and GAIT-prop with λ = 10
("strong"), and with weights that stay orthogonal. Any archives in MNIST's format will do, of images
of 28 x 28 pixels and ten classes: Fashion-MNIST's and KMNIST's, too. A model that the output has is
not trained again; docs/results_published.md has such tables as are printed at the end.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import os
import platform
import sys
import time
import zlib
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gaitprop
from gaitprop import ArgumentError, InvertibleNetwork
from gaitprop.errors import GaitpropError
from gaitprop.training import TrainingData, TrainingSettings, evaluate, make_optimizer, train

MODELS = {
    "BP reference": {"rule": "bp", "learning_rate": 1e-4, "orthogonality": 0.0},
    "BP": {"rule": "bp", "learning_rate": 1e-4, "orthogonality": 0.1},
    "GAIT-prop": {"rule": "gait", "learning_rate": 1e-4, "orthogonality": 0.1, "gamma": 1e-3},
    "TP": {"rule": "tp", "learning_rate": 1e-5, "orthogonality": 1000.0},
}
PUBLISHED = list(MODELS)
ORTHOGONAL = {"orthogonality": 0.0, "constraint": "orthogonal"}
MODELS |= {
    "BP, strong": {**MODELS["BP"], "orthogonality": 10.0},
    "GAIT-prop, strong": {**MODELS["GAIT-prop"], "orthogonality": 10.0},
    "BP, orthogonal": {**MODELS["BP"], **ORTHOGONAL},
    "GAIT-prop, orthogonal": {**MODELS["GAIT-prop"], **ORTHOGONAL},
}
GAUSSIAN = {"initialisation": "gaussian"}
MODELS |= {
    f"{name}, Gaussian": {**MODELS[name], **GAUSSIAN}
    for name in ("BP reference", "BP", "GAIT-prop", "GAIT-prop, strong")
}
ARCHITECTURES = {"square": [784] * 6, "tower": [784, 784, 500, 200, 10]}
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
VALIDATION, SPLIT_SEED = 5000, 0
COMMON = {"batch_size": 60, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "probe_size": 128}


def main(arguments: list[str] | None = None) -> None:
    """Trains what the output does not have yet, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="the JSON file to write, or to add to")
    parser.add_argument("--archives", type=Path, required=True, help="where the .gz files are")
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="square")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    here = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=here)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=PUBLISHED)
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (ArgumentError, OSError, ValueError) as error:
        parser.error(str(error))
    except (GaitpropError, KeyboardInterrupt) as error:
        why = str(error) or "stopped"
        sys.exit(f"{why}; the models that were done are in {options.output}")


def run(options: argparse.Namespace) -> None:
    """As the command line says.

    Raises:
        ArgumentError, OSError, ValueError: something that it names is not as it should be.
        DivergenceError, SingularLayerError: a training came to nothing.
    """
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device: received {device}, which is not here; allowed: cpu")
    if min(options.seeds) < 0:
        raise ValueError(f"--seeds: received {min(options.seeds)}; allowed: 0 or more")
    data, test_images, test_labels = images_of(options.archives, device)
    how = {
        "archives": checksum(options.archives),
        "architecture": options.architecture,
        "settings": {**COMMON, "validation": VALIDATION, "split_seed": SPLIT_SEED},
        "epochs": options.epochs,
        "seeds": options.seeds,
        "machine": machine(device),
    }
    document = begun(options.output, how)
    # Hours from now would be late to hear that it cannot be written.
    write(options.output, document)
    for name in options.models:
        if name not in document["models"]:
            network = InvertibleNetwork(
                ARCHITECTURES[options.architecture],
                orthogonal="initialisation" not in MODELS[name],
                seeds=options.seeds,
                device=device,
            )
            document["models"][name] = train_model(
                name, network, data, test_images, test_labels, options.epochs
            )
            write(options.output, document)
    print(table(document))


def begun(path: Path, how: dict[str, Any]) -> dict[str, Any]:
    """What the output has so far.

    Raises:
        ValueError: it is something else, or was made otherwise than is asked for now.
    """
    if not path.exists():
        return {**how, "models": {}}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        there = {name: document[name] for name in how}
        known = isinstance(document["models"], dict)
    except (ValueError, LookupError, TypeError):
        known = False
    if not known:
        raise ValueError(f"{path} is none of this script's files; allowed: a new one, or one of it")
    for name, wanted in how.items():
        if undated(there[name]) != undated(wanted):
            raise ValueError(f"{path} has {name} {there[name]}; asked for: {wanted}")
    return document


def undated(value: Any) -> Any:
    """A machine's facts without the day."""
    return {**value, "date": None} if isinstance(value, dict) else value


def train_model(
    name: str,
    network: InvertibleNetwork,
    data: TrainingData,
    test_images: Tensor,
    test_labels: Tensor,
    epochs: int,
) -> dict[str, Any]:
    """One row: settings, test results of every seed after the last epoch, and each epoch's."""
    chosen = {key: value for key, value in MODELS[name].items() if key != "initialisation"}
    settings = TrainingSettings(**chosen, **COMMON, epochs=epochs, diagnostics_interval=5)
    began, history, last = time.perf_counter(), [], None
    for last in train(network, make_optimizer(network, settings), data, settings):
        took = time.perf_counter() - began
        print(f"{name}, epoch {last.epoch} of {epochs}, {took:.0f} s", file=sys.stderr, flush=True)
        validation = last.validation.accuracy
        history.append({"epoch": last.epoch, "validation_accuracy": validation.tolist()})
        if last.training is not None:
            history[-1]["training_accuracy"] = last.training.accuracy.tolist()
        if last.diagnostics is not None:
            for kept in ("bp_cosine", "bp_relative_norm", "orthogonality_defect"):
                history[-1][kept] = getattr(last.diagnostics, kept).tolist()
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


def images_of(archives: Path, device: torch.device) -> tuple[TrainingData, Tensor, Tensor]:
    """Training and validation as the pipeline splits them; test images and labels."""
    images, labels, test_images, test_labels = (
        read_idx(archives / f"{part}-ubyte.gz", int(part[-1])) for part in PARTS
    )
    for given, answers in ((images, labels), (test_images, test_labels)):
        if len(given) != len(answers):
            raise ValueError(f"{archives} has {len(given)} images with {len(answers)} labels")
    order = torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(len(images)))
    held_out, kept = order[:VALIDATION], order[VALIDATION:]
    rows, labels = images.flatten(1), labels.long()
    data = TrainingData(
        *(each.to(device) for each in (rows[kept], labels[kept], rows[held_out], labels[held_out])),
        n_classes=10,
    )
    return data, test_images.flatten(1).to(device), test_labels.long().to(device)


def checksum(archives: Path) -> str:
    """Of the four files, by which one set of images is told from another."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update((archives / f"{part}-ubyte.gz").read_bytes())
    return digest.hexdigest()


def read_idx(path: Path, dimensions: int) -> Tensor:
    """A file of unsigned bytes as MNIST's page describes it: magic number, sizes, values.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no archive of MNIST's: {error}") from None
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(f"{path} is no archive of MNIST's: its first bytes are {content[:4]!r}")
    sizes = np.frombuffer(content, ">u4", count=dimensions, offset=4).tolist()
    if math.prod(sizes) != len(content) - head:
        raise ValueError(
            f"{path} is no archive of MNIST's: {len(content) - head} bytes for {sizes}"
        )
    values = np.frombuffer(content, np.uint8, offset=head)
    return torch.from_numpy(values.reshape(sizes).copy())


def machine(device: torch.device) -> dict[str, str]:
    """Where the models are trained, and with what."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "code": code(),
        "date": time.strftime("%Y-%m-%d"),
    }


def code() -> str:
    """The checksum of the library's sources, of which a copy without a history knows no commit."""
    folder = Path(gaitprop.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


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
        kept = "orthogonal W" if "constraint" in settings else f"{settings['orthogonality']:g}"
        cells = [
            *(name, f"{settings['learning_rate']:g}", kept),
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
    try:
        with new.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
