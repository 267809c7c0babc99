"""The table of every rule next to BP, computed again by plain lines of their own."""

from __future__ import annotations

import statistics

import pandas

from pipeline.params.schema import Params
from pipeline.project.paths import ModelKey
from pipeline.report import rules_table
from pipeline.report.evidence import Evidence
from pipeline.results.summary_tables import QUANTITIES
from tests.pipeline.figures.test_figures import make_history, make_params

SEEDS = (0, 1, 2, 3, 4)
T95 = 2.131847  # Student's t with four degrees of freedom
HISTORIES = {"reference": "reference", "gait": "gait", "feedback_alignment": "itp", "tp": "tp"}
BASE = (0.90, 0.91, 0.92, 0.90, 0.93)
SHIFTS = {
    "reference": (0.0, 0.0, 0.0, 0.0, 0.0),
    "gait": (0.001, -0.002, 0.0, 0.002, 0.001),
    "feedback_alignment": (-0.01, -0.02, 0.01, -0.03, 0.0),
    "tp": (-0.3, -0.31, -0.3, -0.32, -0.3),
}


def evidence(third: str = "feedback_alignment") -> Evidence:
    params: Params = make_params(rules=("gait", third, "tp"), seeds=SEEDS)
    names = {"feedback_alignment": third}
    table = pandas.DataFrame(
        [
            {
                "dataset": "digits",
                "architecture": "square",
                "model": names.get(model, model),
                "seed": seed,
            }
            | dict.fromkeys(QUANTITIES, 0.5)
            | {"test_accuracy": BASE[seed] + shifts[seed]}
            for model, shifts in SHIFTS.items()
            for seed in SEEDS
        ]
    )
    histories = {
        ModelKey("test", "digits", "square", names.get(model, model)): make_history(like, SEEDS)
        for model, like in HISTORIES.items()
    }
    return Evidence(params, table, histories, {}, None, [], {})


def expected_difference(model: str) -> str:
    values = [100 * each for each in SHIFTS[model]]
    mean, half = statistics.mean(values), T95 * statistics.stdev(values) / 5**0.5
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def expected_cosine(history: pandas.DataFrame) -> str:
    """Of three layers the last passes its error down from the loss itself: its cosine is 1."""
    least = []
    for row in history.to_dict("records"):
        if row["epoch"] == max(history.epoch):
            least.append(min(row["bp_cosine_layer_1"], row["bp_cosine_layer_2"]))
    return f"{statistics.mean(least):.3f}"


def test_every_cell() -> None:
    found = rules_table.rows(evidence(), "digits", "square")
    assert [row["model"] for row in found] == [
        "GAIT-prop",
        "BP reference",
        "feedback alignment",
        "TP",
    ]
    for row, model in zip(found, ("gait", "reference", "feedback_alignment", "tp"), strict=True):
        accuracies = [100 * (BASE[seed] + SHIFTS[model][seed]) for seed in SEEDS]
        mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
        assert row["test accuracy"] == f"{mean:.2f} ± {spread:.2f}"
        assert row["cosine to BP"] == expected_cosine(make_history(HISTORIES[model], SEEDS))
        if model != "reference":
            assert row["difference to BP reference"] == expected_difference(model)
    assert [row["verdict"] for row in found] == ["equivalent", "–", "not shown", "no"]
    assert [row["needs"] for row in found] == ["inverse", "weights", "fixed feedback", "inverse"]


def test_feedback_at_a_rate_of_0_is_fixed() -> None:
    found = evidence("kolen_pollack")

    def needs() -> list[str]:
        return [row["needs"] for row in rules_table.rows(found, "digits", "square")]

    assert needs()[2] == "learned feedback"
    rules = found.params.rules
    rules["kolen_pollack"] = rules["kolen_pollack"].model_copy(
        update={"feedback_learning_rate": 0.0}
    )
    assert needs()[2] == "fixed feedback"


def test_the_page_for_readers() -> None:
    lines = rules_table.as_markdown(evidence()).splitlines()
    assert lines[0] == "# Every rule of the profile `test`"
    (row,) = (line for line in lines if line.startswith("| TP |"))
    assert row.count("|") == len(rules_table.HEADINGS) + 1
