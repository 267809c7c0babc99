"""The published figures, computed again by plain lines that share no code with the pipeline."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pipeline.results.summary_tables import QUANTITIES, as_markdown, as_tree, summarize
from tests.pipeline.figures.test_figures import make_params, make_seeds
from tests.pipeline.plain_figures import on_held_out_images, on_test_images, rows

# Student's t at 97.5 % with one degree of freedom: tan(0.475 π).
T_OF_TWO_SEEDS = 12.706204736432095


def column(table: list[dict[str, str]], model: str, name: str) -> list[float]:
    return [float(row[name]) for row in table if row["model"] == model]


def test_the_summary(reported: Path) -> None:
    results = reported / "results" / "digits"
    seeds = rows(results / "seeds.csv")
    summary = json.loads((results / "summary.json").read_text())["digits"]["square"]
    table = {row["model"]: row for row in rows(results / "summary.csv")}
    assert set(summary) == set(table) == {"reference", "gait"}
    for model, found in summary.items():
        for quantity in (
            *("test_accuracy", "test_loss", "train_accuracy_final", "train_accuracy_peak"),
            "validation_accuracy_final",
        ):
            first, second = column(seeds, model, quantity)
            expected = {"mean": (first + second) / 2, "std": abs(first - second) / math.sqrt(2)}
            for name, value in expected.items():
                assert found[f"{quantity}_{name}"] == pytest.approx(value, rel=1e-9, abs=1e-12)
                assert float(table[model][f"{quantity}_{name}"]) == found[f"{quantity}_{name}"]
    ours, theirs = (column(seeds, model, "test_accuracy") for model in ("gait", "reference"))
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = sum(differences) / 2
    half = T_OF_TWO_SEEDS * abs(differences[0] - differences[1]) / 2
    assert mean != 0 and half != 0
    for name, value in (("mean", mean), ("low", mean - half), ("high", mean + half)):
        assert summary["gait"][f"difference_to_bp_{name}"] == pytest.approx(value, rel=1e-9)


def test_equal_differences_have_no_interval() -> None:
    params = make_params(rules=("gait",), seeds=(0, 1))
    seeds = make_seeds(params).assign(**dict.fromkeys(QUANTITIES[1:], 0.5))
    seeds["test_accuracy"] = [0.5, 0.6, 0.7, 0.8]  # Their differences differ by rounding.
    models = summarize(params, seeds)
    assert as_tree(models)["digits"]["square"]["gait"]["difference_to_bp_mean"] == 0.2
    assert "difference_to_bp_low" not in as_tree(models)["digits"]["square"]["gait"]
    (row,) = (each for each in as_markdown(params, models).splitlines() if "| GAIT-prop |" in each)
    assert "| +20.00 |" in row


def test_the_seeds_of_the_histories(reported: Path) -> None:
    for row in rows(reported / "results" / "digits" / "seeds.csv"):
        folder = reported / "models" / "digits" / "digits" / "square" / row["model"]
        history = rows(folder / "history.csv")
        own = [each for each in history if each["seed"] == row["seed"]]
        last = max(own, key=lambda each: int(each["epoch"]))
        accuracies = [float(e["train_accuracy"]) for e in own if e["train_accuracy"]]
        assert float(row["train_accuracy_final"]) == float(last["train_accuracy"])
        assert float(row["train_accuracy_peak"]) == max(accuracies)
        assert float(row["validation_accuracy_final"]) == float(last["validation_accuracy"])


def test_the_seeds_of_the_models_and_images(reported: Path) -> None:
    table = rows(reported / "results" / "digits" / "seeds.csv")
    assert len(table) == 4
    for row in table:
        folder = reported / "models" / "digits" / "digits" / "square" / row["model"]
        accuracy, loss = on_test_images(reported, folder, int(row["seed"]))
        assert float(row["test_accuracy"]) == pytest.approx(accuracy, rel=1e-9)
        assert float(row["test_loss"]) == pytest.approx(loss, rel=1e-5)
        accuracy, loss = on_held_out_images(reported, folder, int(row["seed"]))
        last = [e for e in rows(folder / "history.csv") if e["seed"] == row["seed"]][-1]
        assert last["epoch"] == "2"
        assert float(last["validation_accuracy"]) == pytest.approx(accuracy, rel=1e-9)
        assert float(last["validation_loss"]) == pytest.approx(loss, rel=1e-5)


def test_the_curves_of_the_histories(reported: Path) -> None:
    curves = rows(reported / "results" / "digits" / "curves.csv")
    assert len(curves) == 2 * 3
    for point in curves:
        history = rows(reported / "models" / "digits" / point["model"] / "history.csv")
        own = [each for each in history if each["epoch"] == point["epoch"]]
        assert len(own) == 2
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            first, second = (each[name] for each in own)
            if not first:
                assert point[name] == second == "" and point["epoch"] == "0"
                continue
            expected = (float(first) + float(second)) / 2
            assert float(point[name]) == pytest.approx(expected, rel=1e-9, abs=1e-12)
