"""Winners on the edge of what was tried are named, with a value to try next; others are not."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from pipeline.params import params_file
from pipeline.params.schema import Params
from pipeline.results.trial_edges import edges
from tests.pipeline.project_copy import REPOSITORY

RATE, LAMBDA, GAMMA = "rule.learning_rate", "rule.orthogonality", "rule.gamma"
LAYERS, BATCH = "architecture.hidden_layers", "training.batch_size"


@pytest.fixture(scope="module")
def params() -> Params:
    return params_file.load(REPOSITORY / "profiles/digits.yaml")


def table(name: str, values: list[float], best: float, rule: str = "gait") -> pandas.DataFrame:
    """Finished trials, one of which is better than all others."""
    return pandas.DataFrame(
        [
            {
                "trial": str(number),
                "rule": rule,
                name: value,
                "status": "FINISHED",
                "validation_accuracy_mean": 0.9 if value == best else 0.5,
                "validation_loss_mean": 0.1,
            }
            for number, value in enumerate(values)
        ]
    )


def drawn(low: float, high: float, count: int) -> list[float]:
    return [low * (high / low) ** (i / (count - 1)) for i in range(count)]


@pytest.mark.parametrize(
    ("name", "values", "best", "end", "further"),
    [
        (RATE, [1e-5, 1e-4, 1e-3], 1e-3, "largest", 1e-2),
        (RATE, [1e-3, 1e-4, 1e-5], 1e-5, "smallest", 1e-6),
        (RATE, [0.1, 0.2, 0.3], 0.3, "largest", 0.45),
        (LAMBDA, [0.0, 0.1], 0.1, "largest", 0.2),
        (RATE, drawn(1e-5, 1e-2, 40), 1e-2, "largest", 0.1),
        (RATE, drawn(1e-5, 1e-2, 40), drawn(1e-5, 1e-2, 40)[1], "smallest", 1.2e-6),
        # Whole numbers
        (LAYERS, [6, 7, 8], 8, "largest", 10),
        (LAYERS, [1, 2, 4], 1, "smallest", 0),
        (BATCH, [100, 101, 102], 102, "largest", 103),
        (BATCH, [2, 10], 2, "smallest", 1),
    ],
)
def test_on_the_edge(
    params: Params, name: str, values: list[float], best: float, end: str, further: float
) -> None:
    (edge,) = edges(params, table(name, values, best))
    assert (edge.rule, edge.name, edge.value, edge.end) == ("gait", name, best, end)
    assert edge.further == pytest.approx(further)
    assert type(edge.further) is type(further)


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        (RATE, [1e-5, 1e-4, 1e-3], 1e-4),  # within
        (RATE, [1e-3], 1e-3),  # the only one that was tried
        (LAMBDA, [0.0, 0.1, 1.0], 0.0),  # nothing is allowed below
        (GAMMA, [0.1, 1.0], 1.0),  # nor above
        (LAYERS, [0, 1, 2], 0),
        (BATCH, [1, 2, 4], 1),
        (RATE, drawn(1e-5, 1e-2, 40), drawn(1e-5, 1e-2, 40)[20]),
    ],
)
def test_not_on_the_edge(params: Params, name: str, values: list[float], best: float) -> None:
    assert edges(params, table(name, values, best)) == []


def test_every_rule_has_a_winner_of_its_own(params: Params) -> None:
    both = [table(RATE, [1e-4, 1e-3], 1e-3, "bp"), table(RATE, [1e-5, 1e-4, 1e-3], 1e-4)]
    (edge,) = edges(params, pandas.concat(both))
    assert str(edge) == (
        "BP's best learning rate, 0.001, is on the edge, the largest of those tried:"
        " try values up to 0.01 too"
    )


def test_near_the_end_of_what_was_drawn_is_not_said_to_be_the_end(params: Params) -> None:
    values = drawn(1e-5, 1e-2, 40)
    (edge,) = edges(params, table(RATE, values, values[-2]))
    assert "is on the edge, near the largest of those tried: try" in str(edge)


def test_a_table_of_a_rule_that_params_no_longer_has(params: Params, tmp_path: Path) -> None:
    assert edges(params, table(RATE, [1e-4, 1e-3], 1e-3, "gone")) == []
