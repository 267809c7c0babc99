"""A sweep's tables, computed again from its trials' files by plain lines of their own."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.data import image_tensors
from pipeline.params import params_file
from pipeline.params.schema import Params
from pipeline.params.search_space import Configuration
from pipeline.sweep import sweep_results, trial_records
from pipeline.sweep.live_table import Display
from pipeline.sweep.trial import Task, attempt
from pipeline.sweep.trial_records import Record
from pipeline.training.epochs import Epoch
from tests.pipeline.plain_figures import on_held_out_images, rows
from tests.pipeline.project_copy import small_params

RATES = (0.001, 0.01, 0.1)
# By rule and learning rate: how it ended, and validation accuracies of three seeds, an epoch each
# row. The best epoch is nowhere the last, the best seed never of the best trial, and what is best
# of all by its figures was stopped or failed.
TRIALS: dict[str, list[tuple[str, list[list[float]]]]] = {
    "bp": [
        ("FINISHED", [[0.1, 0.2, 0.3], [0.90, 0.95, 0.99], [0.70, 0.80, 0.84]]),
        ("FINISHED", [[0.1, 0.1, 0.1], [0.85, 0.80, 0.81], [0.81, 0.80, 0.79]]),
        ("FAILED", [[0.1, 0.1, 0.1], [0.99, 0.99, 0.99]]),
    ],
    "gait": [
        ("STOPPED", [[0.2, 0.2, 0.2], [0.97, 0.95, 0.98]]),
        ("FINISHED", [[0.3, 0.2, 0.1], [0.60, 0.90, 0.50], [0.98, 0.60, 0.55]]),
        ("FINISHED", [[0.1, 0.1, 0.1], [0.99, 0.10, 0.10], [0.75, 0.72, 0.70]]),
    ],
}


def row(epoch: int, seed: int, accuracy: float) -> dict[str, float]:
    figures = {"validation_loss": (1 - accuracy) ** 2, "validation_accuracy": accuracy}
    training = {"train_loss": 0.9 * (1 - accuracy), "train_accuracy": accuracy**0.5}
    return {"epoch": epoch, "seed": seed, **(training if epoch else {}), **figures}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Path]:
    """A sweep's params, and the folder with its trials' records and its results."""
    folder = tmp_path_factory.mktemp("swept")
    text = small_params()
    section = f"\nsweep:\n  rules: [bp, gait]\n  space: {{rule.learning_rate: {list(RATES)}}}\n"
    section += "  fixed: {training.epochs: 2, training.seeds: [0, 1, 2]}\n"
    (folder / "params.yaml").write_text(text[: text.index("\nsweep:")] + section)
    params = params_file.load(folder / "params.yaml")
    (folder / "trials").mkdir()
    for rule, trials in TRIALS.items():
        for place, (status, epochs) in enumerate(trials):
            of_epochs = [
                [row(epoch, seed, accuracy) for seed, accuracy in enumerate(of_epoch)]
                for epoch, of_epoch in enumerate(epochs)
            ]
            record = Record(
                trial=f"{rule}{place}",
                rule=rule,
                values={"rule.learning_rate": RATES[place]},
                status=status,
                epochs=[Epoch(number, number, each) for number, each in enumerate(of_epochs)],
                failure="it diverged" if status == "FAILED" else None,
                started_ms=0,
                ended_ms=5 - place,
                facts={},
            )
            trial_records.write(folder / "trials", record)
    ended = trial_records.read(folder / "trials")
    trials = sweep_results.table(params, ended.values())
    sweep_results.write(params, folder / "results", trials, {})
    return params, folder


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def deviation(values: list[float]) -> float:
    centre = mean(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def last(record: dict[str, Any], quantity: str) -> list[float]:
    """The last epoch's figures of a record's file."""
    return [each[quantity] for each in record["epochs"][-1]["rows"]]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (folder / "trials").iterdir()]


def best(of: list[dict[str, Any]]) -> dict[str, Any]:
    finished = [record for record in of if record["status"] == "FINISHED"]
    accuracies = [mean(last(record, "validation_accuracy")) for record in finished]
    return finished[accuracies.index(max(accuracies))]


def test_the_table(swept: tuple[Params, Path]) -> None:
    _, folder = swept
    written = {each["trial"]: each for each in rows(folder / "results" / "trials.csv")}
    assert list(written) == ["bp0", "bp1", "bp2", "gait0", "gait1", "gait2"]
    for record in records(folder):
        found = written[record["trial"]]
        assert float(found["rule.learning_rate"]) == record["values"]["rule.learning_rate"]
        assert found["status"] == record["status"]
        assert int(found["epochs"]) == len(record["epochs"]) - 1
        names = [name for name in found if name.endswith(("_mean", "_std"))]
        if record["status"] == "FAILED":
            assert [found[name] for name in names] == [""] * 5
            continue
        for name in names:
            quantity, _, kind = name.rpartition("_")
            computed = {"mean": mean, "std": deviation}[kind](last(record, quantity))
            assert computed > 0
            assert float(found[name]) == pytest.approx(computed, rel=1e-12), name


def test_the_winners(swept: tuple[Params, Path]) -> None:
    _, folder = swept
    found = yaml.safe_load((folder / "results" / "best.yaml").read_text())
    every = records(folder)
    for rule in ("bp", "gait"):
        expected = best([record for record in every if record["rule"] == rule])
        winner = found["rules"][rule]
        assert winner["trial"] == expected["trial"]
        assert winner["values"] == expected["values"]
        assert (winner["seeds"], winner["epochs"]) == (3, 2)
        for quantity in ("validation_accuracy", "validation_loss"):
            values = last(expected, quantity)
            assert winner[quantity]["mean"] == pytest.approx(mean(values), rel=1e-12)
            assert winner[quantity]["std"] == pytest.approx(deviation(values), rel=1e-12)
    assert found["best_rule"] == best(every)["rule"]


def test_the_summary(swept: tuple[Params, Path]) -> None:
    """Percentages of accuracies, and every finished trial in the order of its mean."""
    _, folder = swept
    text = (folder / "results" / "summary.md").read_text()
    for rule, title in (("bp", "BP"), ("gait", "GAIT-prop")):
        finished = [
            each for each in records(folder) if (each["rule"], each["status"]) == (rule, "FINISHED")
        ]
        finished.sort(key=lambda each: mean(last(each, "validation_accuracy")), reverse=True)
        section = text.split(f"## {title}\n")[1].split("\n## ")[0]
        lines = [re.split(r" *\| *", line)[1:-1] for line in section.splitlines() if "`" in line]
        for place, (line, record) in enumerate(zip(lines, finished, strict=True), start=1):
            accuracy, loss = (last(record, f"validation_{name}") for name in ("accuracy", "loss"))
            assert line == [
                str(place),
                f"{record['values']['rule.learning_rate']:g}",
                f"{100 * mean(accuracy):.2f} ± {100 * deviation(accuracy):.2f}",
                f"{mean(loss):.4f} ± {deviation(loss):.4f}",
                f"{100 * mean(last(record, 'train_accuracy')):.2f}",
                f"`{record['trial']}`",
            ]


def test_the_lines_of_a_running_sweep(
    swept: tuple[Params, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    params, folder = swept
    display = Display(params, 6, [])
    for record in trial_records.read(folder / "trials").values():
        display.ended(record)
    said = capsys.readouterr().out.splitlines()
    for record in records(folder):
        (line,) = (line for line in said if line.startswith(record["trial"]))
        if record["status"] == "FAILED":
            assert "failed: it diverged" in line
            continue
        values = last(record, "validation_accuracy")
        assert f"accuracy {100 * mean(values):.2f}% ± {100 * deviation(values):.2f}%" in line


def test_a_trials_figures_are_those_of_its_network_on_all_held_out_images(
    reported: Path, tmp_path: Path
) -> None:
    """The train stage keeps the network of the same settings; a trial keeps figures alone."""
    text = (reported / "params.yaml").read_text()
    section = "\nsweep: {rules: [gait], space: {rule.learning_rate: [0.001]}}\n"
    (tmp_path / "params.yaml").write_text(text[: text.index("\nsweep:")] + section)
    params = params_file.load(tmp_path / "params.yaml")
    assert params.rules["gait"].learning_rate == 0.001
    images = image_tensors.load(reported / "data/digits/digits.safetensors")
    said: list[dict[str, Any]] = []
    configuration = Configuration("gait", {"rule.learning_rate": 0.001})
    attempt(configuration, Task(params, images, report_s=0), {}, said.append)
    model = reported / "models" / "digits" / "digits" / "square" / "gait"
    seeds = said[-1]["epochs"][-1]["rows"]
    assert [each["seed"] for each in seeds] == [0, 1]
    for each in seeds:
        accuracy, loss = on_held_out_images(reported, model, each["seed"])
        assert each["validation_accuracy"] == pytest.approx(accuracy, rel=1e-9)
        assert each["validation_loss"] == pytest.approx(loss, rel=1e-5)
    accuracies = [each["validation_accuracy"] for each in seeds]
    assert said[-1]["validation_accuracy"] == pytest.approx(sum(accuracies) / 2, rel=1e-12)
