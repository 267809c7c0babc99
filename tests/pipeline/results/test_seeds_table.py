"""seeds.csv comes back to the last bit, and is refused beside other models."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.project.errors import GaitError
from pipeline.results import seeds_table
from tests.pipeline.figures.test_figures import make_params
from tests.pipeline.project_copy import REPOSITORY


def test_what_is_read_is_what_is_written() -> None:
    path = REPOSITORY / "results/digits" / seeds_table.FILE
    with path.open(encoding="utf-8") as stream:
        written = list(csv.DictReader(stream))
    read = seeds_table.read(path).to_dict("records")
    assert len(written) == len(read)
    for ours, theirs in zip(read, written, strict=True):
        assert ours["test_loss"] == float(theirs["test_loss"])
        assert ours["result"] == theirs["result"]


def test_names_that_look_like_numbers_or_like_nothing(tmp_path: Path) -> None:
    path = tmp_path / seeds_table.FILE
    rows = ["dataset,architecture,model,seed,result", "digits,10,007,0,1e5", "digits,nan,null,1,1"]
    path.write_text("\n".join(rows))
    read = seeds_table.read(path)
    assert [list(row) for row in read.to_numpy()] == [
        ["digits", "10", "007", 0, "1e5"],
        ["digits", "nan", "null", 1, "1"],
    ]


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(GaitError, match="is missing: run `gait evaluate`, or `gait repro`"):
        seeds_table.read(tmp_path / seeds_table.FILE)


def test_a_table_of_more_models_than_params_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = make_params()
    path = seeds_table.path_of(params)
    path.parent.mkdir(parents=True)
    path.write_text("dataset,architecture,model,seed,result\ndigits,square,gait_full,0,00\n")
    said = r"is of other models, too \(digits/square/gait_full\): run `gait evaluate`"
    with pytest.raises(GaitError, match=said):
        seeds_table.read_of_models(params, [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"is no table \(No columns to parse"),
        (b"\x00\xff\x01", "is no table"),
        (
            b"a,b\n1,2\n",
            "lacks dataset, architecture, model, seed, result",
        ),
        (b"not a table at all\n", "lacks dataset"),
        (b"a\n1,2\n1,2,3,4\n", "is no table"),
    ],
)
def test_what_is_no_such_table(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / seeds_table.FILE
    path.write_bytes(content)
    with pytest.raises(GaitError, match=f"{path} {said}"):
        seeds_table.read(path)
