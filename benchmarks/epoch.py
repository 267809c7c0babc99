"""Where an epoch's time goes: steps, evaluation and diagnostics, records and MLflow.

    python -m benchmarks.epoch OUTPUT.json [--images 55000] [--epochs 2]

Random images of MNIST's size and number, the published network, GAIT-prop with the regularizer, one
seed; the records go to an MLflow store in SQLite, as those of the train stage do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks.contestants import Shape
from benchmarks.steps import PUBLISHED, machine
from gaitprop import InvertibleNetwork
from gaitprop.seeding import generator
from gaitprop.training import TrainingData, TrainingSettings, make_optimizer, steps_per_epoch, train

N_CLASSES = 10


def main() -> None:
    """Trains some epochs and writes the share of each part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="the JSON file to write")
    parser.add_argument("--images", type=int, default=55000, help="training images")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    output = options.output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gait-bench-") as folder:
        os.chdir(folder)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        parts = measure(options.images, options.epochs)
    content = {
        "machine": machine(torch.device("cpu")),
        "shape": vars(PUBLISHED),
        "images": options.images,
        "epoch": {
            name: {"mean": mean(seconds), "stdev": stdev(seconds) if len(seconds) > 1 else None}
            for name, seconds in parts.items()
        },
        "epochs": options.epochs,
    }
    output.write_text(json.dumps(content, indent=2) + "\n")


def measure(images: int, epochs: int, shape: Shape = PUBLISHED) -> dict[str, list[float]]:
    """Seconds of each epoch, by part."""
    # Here, since only this part needs more than torch.
    from pipeline.tracking import delivery
    from pipeline.tracking.periodic_states import StateWriter
    from pipeline.tracking.store import KEY_TAG, open_experiment
    from pipeline.training import history, state_file
    from pipeline.training.epochs import FINISHED, Epoch
    from pipeline.training.training_loop import Point
    from pipeline.training.training_record import Training, ended

    network = InvertibleNetwork([shape.width] * (shape.layers + 1))
    settings = TrainingSettings(
        rule="gait", orthogonality=0.1, epochs=epochs, batch_size=shape.batch_size
    )
    optimizer = make_optimizer(network, settings)
    training = Training(
        id="benchmark",
        experiment="benchmark",
        name="epoch",
        folder="model",
        seeds=network.seeds,
        parameters={
            "rule": settings.rule,
            "rule.learning_rate": settings.learning_rate,
            "rule.orthogonality": settings.orthogonality,
            "rule.gamma": settings.gamma,
            "rule.constraint": settings.constraint,
            "rule.penalty": settings.penalty,
            "training.epochs": epochs,
            "training.batch_size": settings.batch_size,
            "training.seeds": list(network.seeds),
        },
        tags={
            "gait.profile": "benchmark",
            "gait.dataset": "random",
            "gait.architecture": "square",
            "gait.model": settings.rule,
            "data.sha256": "0" * 64,
        },
        started_ms=int(time.time() * 1000),
    )
    sending = delivery.Delivery(*open_experiment("benchmark"), training)
    states = StateWriter(training, {}, Path("state"), sending)
    steps = steps_per_epoch(images, shape.batch_size)
    ends: list[float] = []
    parts: dict[str, list[float]] = {"steps": [], "evaluation": [], "records": []}
    records = train(
        network,
        optimizer,
        _data(images, shape.width),
        settings,
        on_step=lambda _: ends.append(time.perf_counter()),
    )
    next(records)
    for epoch in range(1, epochs + 1):
        ends.clear()
        began = time.perf_counter()
        record = next(records)
        trained = time.perf_counter()
        rows = history.rows(record, network.seeds)
        whole = [*training.epochs, Epoch(epoch, int(time.time() * 1000), rows)]
        training = replace(training, epochs=whole)
        state = state_file.snapshot(network, optimizer, epoch)
        states.save_if_due(Point(training, state, record.last))
        parts["records"].append(time.perf_counter() - trained)
        # The first step is as long as the others: what comes before it is the shuffling.
        stepping = (ends[-1] - ends[0]) * steps / (steps - 1)
        parts["steps"].append(stepping)
        parts["evaluation"].append(trained - began - stepping)
    # The checksum of no model: MLflow gets the figures, a warning, and no files.
    if not sending.close(ended(training, FINISHED, {KEY_TAG: "0" * 64}), patience=60):
        raise RuntimeError(f"MLflow lacks a part of what was measured: {sending.problem}")
    return parts


def _data(images: int, width: int) -> TrainingData:
    source = generator(0, "benchmark")
    count = images + images // 11  # the share for validation of profiles/paper.yaml
    pixels = torch.randint(256, (count, width), generator=source, dtype=torch.uint8)
    labels: Any = torch.randint(N_CLASSES, (count,), generator=source)
    return TrainingData(
        pixels[:images],
        labels[:images],
        pixels[images:],
        labels[images:],
        N_CLASSES,
        maximum=255,
    )


if __name__ == "__main__":
    main()
