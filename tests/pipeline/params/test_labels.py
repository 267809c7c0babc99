"""What readers are told of a model's regularizer is what trains it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas
import pytest

from pipeline.figures.style import model_label
from pipeline.params import params_file
from pipeline.params.labels import (
    loss_text,
    model_name,
    other_settings,
    regularizer_of,
    regularizer_text,
    value_text,
)
from pipeline.params.schema import Params
from pipeline.results.summary_tables import QUANTITIES, as_markdown, summarize
from tests.pipeline.project_copy import small_params


def test_a_value_is_short() -> None:
    first = {"channels": 1, "kernel_size": 3, "stride": 2, "padding": 1}
    second = {"channels": 9, "kernel_size": 2, "stride": 1, "padding": 0}
    assert value_text([first, second]) == "1×3×3 stride 2 padding 1, 9×2×2"
    assert [value_text(each) for each in (1e-5, 2, True, [32, 10])] == [
        *("1e-5", "2", "True", "[32, 10]"),
    ]


CHANGES = {
    "off_diagonal": ("", "0.1"),
    "full": ("    penalty: full\n", "0.1 (full)"),
    "constraint": ("    constraint: orthogonal\n", "orthogonal W"),
}


@dataclass
class Case:
    params: Params
    text: str


@pytest.fixture(params=CHANGES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    more, text = CHANGES[request.param]
    path = tmp_path / "params.yaml"
    path.write_text(
        small_params().replace("    gamma: 0.001\n  itp", f"    gamma: 0.001\n{more}  itp")
    )
    return Case(params_file.load(path), text)


def test_tables_and_figures_say_what_is_used(case: Case) -> None:
    assert regularizer_of(case.params, "gait") == case.text
    named = case.text if "W" in case.text else f"λ = {case.text}"
    assert model_label(case.params, "gait") == f"GAIT-prop, {named}"
    rows = [
        {"dataset": "digits", "architecture": "square", "model": model, "seed": seed}
        for model in ("reference", "gait")
        for seed in (0, 1)
    ]
    quantities = ("test_accuracy", "test_loss", "train_accuracy_final", "train_accuracy_peak")
    seeds = pandas.DataFrame(rows).assign(**dict.fromkeys(quantities, 0.5))
    seeds["validation_accuracy_final"] = [0.1, 0.2, 0.3, 0.5]
    table = as_markdown(case.params, summarize(case.params, seeds))
    # A row is called BP, too.
    assert "| difference to BP reference |" in table
    assert f"| GAIT-prop | 0.001 | {case.text} | 0.001 | 2 |" in table
    assert "| BP reference | 0.001 | 0 |" in table


def test_numbers_in_a_models_name_are_said_as_what_they_stand_for(tmp_path: Path) -> None:
    own = "  gait_full_001: {rule: gait, learning_rate: 0.1, orthogonality: 0.01, penalty: full}\n"
    path = tmp_path / "params.yaml"
    path.write_text(small_params().replace("  itp:\n", f"{own}  itp:\n", 1))
    params = params_file.load(path)
    assert model_name(params, "gait_full_001") == "GAIT-prop, λ = 0.01 (full)"
    assert model_name(params, "gait") == "GAIT-prop"
    # A rule that the params do not have is named all the same.
    del params.rules["tp"]
    assert model_name(params, "tp") == "TP"
    # λ tells these two from no one.
    more = "  gait_lr_1: {rule: gait, learning_rate: 0.1, orthogonality: 0.5}\n"
    more += "  gait_lr_3: {rule: gait, learning_rate: 0.3, orthogonality: 0.5}\n"
    text = path.read_text().replace("  itp:\n", f"{more}  itp:\n", 1)
    path.write_text(text.replace("[bp, gait]", "[bp, gait, gait_lr_1, gait_lr_3]"))
    params = params_file.load(path)
    assert model_name(params, "gait_lr_1") == "GAIT-prop, lr 1"
    assert model_label(params, "gait_lr_3") == "GAIT-prop, lr 3, λ = 0.5"


def test_no_weight_weighs_nothing() -> None:
    assert regularizer_text(0.0, "full", "none", "λ ") == "λ 0"


def test_what_a_model_has_of_its_own_is_in_its_row(tmp_path: Path) -> None:
    own = "    weight_decay: 1.0\n  bridge:\n    rule: damped\n    damping: 3.0\n"
    own += "    learning_rate: 0.1\n    orthogonality: 0\n"
    path = tmp_path / "params.yaml"
    path.write_text(
        small_params().replace("    gamma: 0.001\n  itp", f"    gamma: 0.001\n{own}  itp")
    )
    params = params_file.load(path)
    assert other_settings(params, "gait") == "weight decay 1"
    assert other_settings(params, "bridge") == "μ 3"
    assert other_settings(params, "bp") == other_settings(params, "reference") == ""
    rows = [
        {"dataset": "digits", "architecture": "square", "model": model, "seed": 0}
        for model in ("reference", "gait")
    ]
    seeds = pandas.DataFrame(rows).assign(**dict.fromkeys(QUANTITIES, 0.5))
    lines = as_markdown(params, summarize(params, seeds)).splitlines()
    heading, _, reference, gait = lines[-4:]
    cells = [[cell.strip() for cell in line.split("|")] for line in (heading, reference, gait)]
    assert [row[5] for row in cells] == ["other settings", "–", "weight decay 1"]


def test_a_name_that_says_what_the_weights_are_is_not_followed_by_it_again(
    tmp_path: Path,
) -> None:
    kept = "orthogonal"
    more = "".join(
        f"  {name}: {{rule: gait, learning_rate: {rate}, orthogonality: 0, constraint: {kept}}}\n"
        for name, rate in (("gait_orthogonal", 0.1), ("gait_orthogonal_slower", 0.01))
    )
    text = small_params().replace("  itp:\n", f"{more}  itp:\n", 1)
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("[bp, gait]", "[bp, gait, gait_orthogonal]"))
    assert model_label(params_file.load(path), "gait_orthogonal") == "GAIT-prop, orthogonal W"
    both = "[bp, gait, gait_orthogonal, gait_orthogonal_slower]"
    path.write_text(text.replace("[bp, gait]", both))
    label = model_label(params_file.load(path), "gait_orthogonal_slower")
    assert label == "GAIT-prop, orthogonal slower"


@pytest.mark.parametrize(("loss", "text"), [(0.01234, "0.0123"), (1317.44, "1317.4")])
def test_a_loss_that_exploded_has_few_digits(loss: float, text: str) -> None:
    row = {"test_loss_mean": loss, "test_loss_std": loss / 10}
    assert loss_text(row).split(" ± ")[0] == text
