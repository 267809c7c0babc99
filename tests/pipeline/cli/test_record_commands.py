"""What commands on records say to people and to programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest

from pipeline.audit import compare_models, reproduce, reproduce_differences
from pipeline.audit.compare_sources import Compared, ComparedModel
from pipeline.audit.reproduce import Outcome
from pipeline.cli import record_commands
from pipeline.project.errors import GaitError


def test_a_difference_to_a_recorded_zero_is_json() -> None:
    old, new = (pandas.DataFrame({"seed": [0], "test_loss": [loss]}) for loss in (0.0, 0.5))
    outcome = Outcome("d/s/gait", reproduce_differences.of_tables(old, new, ["seed"]))
    text = json.dumps(record_commands._plain(outcome), allow_nan=False)
    (difference,) = json.loads(text)["differences"]
    assert (difference["absolute"], difference["relative"]) == (0.5, None)


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_made_again_is_told_though_the_next_model_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    def made_again(folder: Path, seed: int | None) -> Iterator[Outcome]:
        yield Outcome("d/s/bp", [])
        raise GaitError("no memory is left")

    monkeypatch.setattr(reproduce, "of_table", made_again)
    with pytest.raises(GaitError, match="no memory is left"):
        record_commands.reproduce(check=Path("results/digits"), everything=True, as_json=as_json)
    said = capsys.readouterr()
    assert "d/s/bp: identical" in (said.err if as_json else said.out)
    if as_json:
        (told,) = json.loads(said.out)
        assert told["identical"] is True


def test_brackets_in_tables_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    subjects = [
        Compared(
            name, {"d/s/gait": ComparedModel({"rule.kind": f"{name} it"}, {"test_loss": {0: 1}})}
        )
        for name in ("[bold]", "[/bold]")
    ]
    record_commands._show_comparisons(compare_models.compare(subjects))
    said = capsys.readouterr().out
    assert said.count("[bold]") == said.count("[/bold]") == 4
    facts = {"cpu": ("of [red]", "of [/red]")}
    difference = reproduce_differences.Difference("the model's files", "")
    record_commands._show(Outcome("d/s/gait", [difference], facts))
    said = capsys.readouterr().out
    assert "of [red]" in said and "of [/red]" in said
