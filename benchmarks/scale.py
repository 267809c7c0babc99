"""How cost grows where no product of matrices is: images, epochs on record, trials of a sweep.

    python -m benchmarks.scale OUTPUT.json

Images are read and split as before a training; epochs are those of a network so small that records
and MLflow dominate; trials are written as a sweep writes its tables and figures.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import safetensors.torch
import torch

from benchmarks.contestants import Shape
from benchmarks.epoch import measure
from benchmarks.memory import peak_bytes
from benchmarks.steps import machine
from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.sweep import sweep_results

PROFILE = Path(__file__).parents[1] / "profiles" / "digits.yaml"
IMAGES = (10_000, 100_000, 1_000_000)
EPOCHS, TENTH = 10_000, 1_000
TRIALS = (40, 200, 1_000)
TINY = Shape(width=16, hidden_layers=1, batch_size=60, seeds=1)


def main() -> None:
    """Measures each kind of growth and writes what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="the JSON file to write")
    output = parser.parse_args().output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gait-bench-") as folder:
        os.chdir(folder)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        content = {
            "machine": machine(torch.device("cpu")),
            "growth": {"images": images(), "epochs": epochs(), "trials": trials()},
        }
    output.write_text(json.dumps(content, indent=2) + "\n")


def images() -> list[dict[str, Any]]:
    """Reading, verifying and splitting so many images of 784 pixels."""
    found = []
    path = Path("images.safetensors")
    for count in IMAGES:
        labels = (torch.arange(count) % 10).to(torch.uint8)
        tensors = {
            "train_images": torch.randint(256, (count, 784), dtype=torch.uint8),
            "train_labels": labels,
            "test_images": torch.randint(256, (10, 784), dtype=torch.uint8),
            "test_labels": labels[:10].clone(),
        }
        facts = {"image_set": "mnist", "classes": 10, "maximum": 255}
        safetensors.torch.save_file(tensors, path, {"gait": json.dumps(facts)})
        del tensors
        found.append(
            _measured(
                count,
                lambda: image_tensors.training_and_validation(
                    image_tensors.load(path), 1 / 12, seed=0
                ),
            )
        )
    path.unlink()
    return found


def epochs() -> list[dict[str, Any]]:
    """The first and the last thousand of ten thousand epochs, with states and MLflow."""
    parts = measure(2 * TINY.batch_size, EPOCHS, TINY)
    whole = [sum(each) for each in zip(*parts.values(), strict=True)]
    return [
        {"count": last, "seconds": sum(whole[last - TENTH : last]), "peak_bytes": None}
        for last in (TENTH, EPOCHS // 2, EPOCHS)
    ]


def trials() -> list[dict[str, Any]]:
    """Tables, summary and figures of so many trials of four rules."""
    params = params_file.load(PROFILE)
    rules = params.sweep.rules
    found = []
    for count in TRIALS:
        rates = list(numpy.logspace(-5, -3, 10))
        strengths = list(numpy.logspace(-3, 3, count // (10 * len(rules))))
        space = {"rule.learning_rate": rates, "rule.orthogonality": strengths}
        sweep = params.sweep.model_copy(update={"space": space})
        changed = params.model_copy(update={"sweep": sweep})
        table = _trials(rules, rates, strengths)

        def write(changed: Any = changed, table: pandas.DataFrame = table) -> None:
            sweep_results.write(changed, Path("sweep"), table, {})

        found.append(_measured(count, write))
    return found


def _trials(rules: Any, rates: list[float], strengths: list[float]) -> pandas.DataFrame:
    draw = numpy.random.default_rng(0)
    rows = [
        {
            "trial": f"{number:012x}",
            "rule": rule,
            "rule.learning_rate": rate,
            "rule.orthogonality": strength,
            "status": "FINISHED",
            "epochs": 15,
            "validation_accuracy_mean": draw.random(),
            "validation_accuracy_std": 0.01,
            "validation_loss_mean": draw.random(),
            "validation_loss_std": 0.01,
            "train_accuracy_mean": draw.random(),
            "failure": "",
        }
        for number, (rule, rate, strength) in enumerate(
            (rule, rate, strength) for rule in rules for rate in rates for strength in strengths
        )
    ]
    return pandas.DataFrame(rows)


def _measured(count: int, action: Callable[[], object]) -> dict[str, Any]:
    """Seconds, once, and the memory that was needed beyond what there was."""
    seconds: list[float] = []

    def timed() -> None:
        began = time.perf_counter()
        kept = action()
        seconds.append(time.perf_counter() - began)
        del kept

    peak = peak_bytes(timed, torch.device("cpu"))
    return {"count": count, "seconds": seconds[0], "peak_bytes": peak}


if __name__ == "__main__":
    main()
