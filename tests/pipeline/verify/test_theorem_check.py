"""``gait verify``: its tables, its JSON, its figure, and that its verdict can be no."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gaitprop import RULES
from gaitprop.theorem import verification
from pipeline.figures.error_by_depth import HIGHEST, error_against_depth
from pipeline.verify.theorem_check import as_document, as_json, write_figure
from tests.pipeline.project_copy import REPOSITORY, gait, gait_here

PUBLISHED = REPOSITORY / "results" / "verify"
ROWS = {
    "activation", "crossings", "gamma", "hidden_layers", "holds", "left_out", "literal", "network",
    "precision", "rule", "samples", "shape", "stable", "tolerance", "units", "whole_batch",
    "width",
}  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same measurements on networks that take no time."""
    monkeypatch.setattr(verification, "DEPTHS", (1, 2, 4, 40))
    monkeypatch.setattr(verification, "OTHER_DEPTHS", (1, 2))
    monkeypatch.setattr(verification, "PAPER", ((40,) * 6, (40, 40, 20, 10)))
    monkeypatch.setattr(verification, "WIDTH", 16)
    monkeypatch.setattr(verification, "KINK_BATCH", 200)


@pytest.mark.long
def test_the_whole_command(tmp_path: Path) -> None:
    """In a folder with nothing in it: no data and no params.yaml are needed."""
    figure = tmp_path / "error.svg"
    printed = gait(
        tmp_path, "verify", "--json", "--figure", str(figure), PYTHONPATH=str(REPOSITORY)
    )
    document = json.loads(printed)
    assert document["holds"] is True
    gait_rows = [row for row in document["comparisons"] if row["rule"] == "gait"]
    assert {row["hidden_layers"] for row in gait_rows} >= {1, 2, 4, 8, 16, 32, 64}
    assert {row["network"] for row in gait_rows} >= {"4 × 784", "784-784-500-200-10"}
    assert {row["precision"] for row in gait_rows} == {"float32", "float64"}
    # Nothing can be thirty times as large as it is without a word.
    held = [row for name in ("comparisons", "convolutions", "kink") for row in document[name]]
    held = [*(row for row in held if row["holds"] is not None), *document["rescalings"]]
    assert len(held) > 80
    for row in held:
        assert row["tolerance"] / 30 < row["stable"] < row["tolerance"], row
    # The published evaluation is noise at the paper's own size.
    (paper,) = (
        row for row in gait_rows if (row["network"], row["precision"]) == ("4 × 784", "float64")
    )
    assert paper["literal"] > 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["error.svg"]
    assert figure.read_bytes().startswith(b"<?xml")


def test_json_is_one_document_with_sorted_keys(small: None) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        code, printed, problems = gait_here("verify", "--json")
        assert (code, problems) == (0, "")
        torch.set_num_threads(1)
        _, again, _ = gait_here("verify", "--json")
    finally:
        torch.set_num_threads(threads)
    assert again == printed, "the number of threads changes the figures"
    document = json.loads(printed, parse_constant=lambda name: pytest.fail(name))
    names = ["comparisons", "convolutions", "departures", "holds", "kink", "rescalings", "settings"]
    assert list(document) == names
    for row in (*document["comparisons"], *document["convolutions"], *document["kink"]):
        assert set(row) == ROWS
        assert list(row) == sorted(row)


HEADS = (
    "hidden × width float64 float32 float64 float32 kink left out theorem",
    "The other rules: for ITP and TP there is no theorem",
    "hidden × width rule float64 float32 float64 float32 kink theorem",
    "hidden × width rule float64 float32 float64 float32 kink theorem",
    "γ across kink of left out kept samples all samples theorem",
    "network float64 float32 left out theorem",
    "hidden × width precision length stable rescaled published theorem",
    "‖WᵀW − I‖₂ ‖WᵀW − I‖_F/√n measured first order bound within",
)


def in_both_precisions(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    by_name = {(r["network"], r["rule"], r["activation"], r["precision"]): r for r in rows}
    return [
        (row, by_name[*name, "float32"])
        for (*name, precision), row in by_name.items()
        if precision == "float64"
    ]


def numbers(row: dict[str, Any], *names: str) -> list[str]:
    return ["inf" if row[name] is None else f"{row[name]:.1e}" for name in names]


def left_out(row: dict[str, Any]) -> str:
    return f"{row['left_out']}/{row['samples']}"


def comparison_cells(wide: dict[str, Any], narrow: dict[str, Any]) -> list[str]:
    """Of one of the three tables that compare rules."""
    first_table = (wide["rule"], wide["activation"]) == ("gait", "leaky_relu")
    rule = {"bp": "BP", "gait": "GAIT-prop", "itp": "ITP", "tp": "TP"}[wide["rule"]]
    published = [*numbers(wide, "literal"), *numbers(narrow, "literal")]
    return [
        wide["network"],
        *([] if first_table else [rule]),
        *numbers(wide, "stable"),
        *numbers(narrow, "stable"),
        *(["–", "–"] if rule == "BP" else published),
        str(wide["crossings"]),
        *([left_out(wide)] if first_table else []),
        "none" if wide["holds"] is None else "holds",
    ]


def test_tables_show_what_was_measured(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = gait_here("verify")
    assert code == 0
    document = as_document(verification.verify())
    expected = [comparison_cells(*pair) for pair in in_both_precisions(document["comparisons"])]
    for row in document["kink"]:
        start = [f"{row['gamma']:g}", str(row["crossings"]), str(row["units"]), left_out(row)]
        expected.append([*start, *numbers(row, "stable", "whole_batch"), "holds"])
    for wide, narrow in in_both_precisions(document["convolutions"]):
        stable = [*numbers(wide, "stable"), *numbers(narrow, "stable")]
        expected.append([wide["network"], *stable, left_out(wide), "holds"])
    for row in document["rescalings"]:
        start = [f"{row['hidden_layers']} × {row['width']}", row["precision"], f"{row['length']:g}"]
        expected.append([*start, *numbers(row, "stable", "rescaled", "literal"), "holds"])
    for row in document["departures"]:
        names = ("norm", "defect", "measured", "first_order", "bound")
        expected.append([*numbers(row, *names), "holds"])
    lines = [" ".join(line.split()) for line in out.splitlines()]
    shown = [line for line in lines if line.endswith((" holds", " none"))]
    assert shown == [" ".join(cells) for cells in expected]
    assert tuple(line for line in lines if line.endswith((" theorem", " within"))) == HEADS
    assert lines.count("stable stable published published across") == 3
    assert "The theorem holds" in out
    assert "FAILS" not in out
    assert "…" not in out, "a table is too wide for 80 columns"


def test_a_broken_rule_is_told_and_the_exit_code_is_1(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "gait", RULES["itp"])
    code, out, _ = gait_here("verify")
    assert code == 1
    assert "The theorem FAILS" in out
    assert "GAIT-prop, leaky_relu, 1 × 16, float64, γ = 0.001" in out
    code, printed, _ = gait_here("verify", "--json")
    assert code == 1
    document = json.loads(printed)
    assert document["holds"] is False
    failed = [row for row in document["comparisons"] if row["holds"] is False]
    assert {(row["rule"], row["activation"]) for row in failed} == {("gait", "leaky_relu")}
    assert not any(row["holds"] for row in document["departures"])
    assert not any(row["holds"] for row in document["convolutions"])
    assert "GAIT-prop, leaky_relu, 8 convolutions, float32, γ = 0.001" in out
    assert "GAIT-prop, 4 × 16, float64" in out


def test_what_is_not_finite_is_null() -> None:
    figures = (math.nan, math.inf, 0.12345, 0, 9, 0, 3, 0.1, False)
    row = verification.Comparison((3, 3, 3), "linear", "gait", "float32", 0.1, *figures)
    (written,) = as_document(verification.Verification([row], [], []))["comparisons"]
    assert (written["stable"], written["literal"], written["whole_batch"]) == (None, None, 0.123)
    assert "NaN" not in as_json(written)


@pytest.mark.parametrize("name", ["error.svg", "error.PNG"])
def test_the_figure_is_written_whole_or_not_at_all(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads((PUBLISHED / "verify.json").read_text())
    path = tmp_path / name
    write_figure(document, path)
    before = path.read_bytes()
    assert before[:5] in (b"<?xml", b"\x89PNG\r")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pipeline.figures.StyledFigure.savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        write_figure(document, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "error.pdf"], "--figure is 'error.pdf'; allowed: a name that ends in .svg"),
        (["--figure", "no/such/error.svg"], "no/such is no folder to write to"),
        (["--figure", "folder.svg"], "which is a folder"),
        (["--device", "abacus"], "device is 'abacus'"),
        (["--device", "meta"], "device is 'meta'"),
        (["--device", "hpu"], "device is 'hpu'"),
    ],
)
def test_refused_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.svg").mkdir()
    monkeypatch.setattr(verification, "compare", lambda *_, **__: pytest.fail("it worked"))
    code, _, said = gait_here("verify", *arguments)
    assert code == 2
    assert message in said


def test_the_published_figure_is_drawn_from_the_published_numbers(tmp_path: Path) -> None:
    document = json.loads((PUBLISHED / "verify.json").read_text())
    assert as_json(document) + "\n" == (PUBLISHED / "verify.json").read_text()
    error_against_depth(document).savefig(tmp_path / "again.svg")
    published = PUBLISHED / "error_against_depth.svg"
    assert (tmp_path / "again.svg").read_bytes() == published.read_bytes()


def test_the_figure_shows_each_form_in_both_precisions() -> None:
    document = json.loads((PUBLISHED / "verify.json").read_text())
    figure = error_against_depth(document)
    published = [
        row
        for row in document["comparisons"]
        if (row["rule"], row["activation"], row["width"]) == ("gait", "leaky_relu", 32)
    ]
    shorter, longer = (
        [row for row in document["rescalings"] if row["length"] == length]
        for length in (1e-7, 1e-4)
    )
    expected = [
        {"stable form": ("stable", published), "as published": ("literal", published)},
        {
            "_": ("stable", shorter),
            "steps of $10^{-7}$": ("rescaled", shorter),
            "steps of $10^{-4}$": ("rescaled", longer),
        },
    ]
    looks = set()
    for panel, shown in zip(figure.axes, expected, strict=True):
        assert panel.get_xscale() == panel.get_yscale() == "log"
        lines = [line for line in panel.lines if line.get_marker() not in ("D", "None")]
        for name, (form, rows) in shown.items():
            for precision in ("float64", "float32"):
                chosen = [row for row in rows if row["precision"] == precision]
                if not chosen:
                    continue
                label = "_" if name == "_" else f"{name}, {precision}"
                filled = precision == "float64"
                (line,) = (
                    line
                    for line in lines
                    if line.get_label() == label
                    if (line.get_markerfacecolor() != "white") == filled
                )
                looks.add((line.get_color(), line.get_linestyle(), line.get_marker()))
                assert list(line.get_xdata()) == [row["hidden_layers"] for row in chosen]
                for height, row in zip(line.get_ydata(), chosen, strict=True):
                    assert height == row[form] or (row[form] is None and height > HIGHEST)
    assert len(looks) == 7
    shown_text = figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))
    assert min(text.get_fontsize() for text in shown_text if text.get_text()) >= 8
