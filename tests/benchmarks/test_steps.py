"""What is compared computes the same; what is counted is what is computed; the page shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report, steps
from benchmarks.contestants import (
    AUTOGRAD_BP,
    AUTOGRAD_BP_REGULARIZED,
    LITERAL,
    Contestant,
    Shape,
    contestant,
)
from benchmarks.floor import work
from benchmarks.memory import peak_bytes
from benchmarks.timing import in_turn

CPU = torch.device("cpu")
SMALL = Shape(width=24, hidden_layers=1, batch_size=10, seeds=2)
PERFORMANCE = Path(__file__).parents[2] / "results" / "performance"


def prepared(name: str, shape: Shape = SMALL) -> Contestant:
    return contestant(name, shape, CPU, torch.float64)


CONVOLUTIONAL = Shape(width=784, hidden_layers=2, batch_size=3, seeds=2, convolutional=True)


@pytest.mark.parametrize(
    ("name", "ours", "shape"),
    [
        (AUTOGRAD_BP, "bp", SMALL),
        (AUTOGRAD_BP_REGULARIZED, "bp, λ", SMALL),
        (LITERAL, "gait, λ", SMALL),
        (AUTOGRAD_BP, "bp", CONVOLUTIONAL),
        # Where weights are orthogonal the rules are one.
        ("bp, orthogonal", "gait, orthogonal", SMALL),
        ("bp, orthogonal", "gait, orthogonal", CONVOLUTIONAL),
    ],
)
def test_contestants_take_the_same_step(name: str, ours: str, shape: Shape) -> None:
    left, right = prepared(name, shape), prepared(ours, shape)
    for _ in range(2):
        left.step()
        right.step()
    for a, b in zip(left.network.parameters(), right.network.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        # The literal form loses digits to a difference: 1e-16 / γ at one hidden layer.
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-11)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("regularized", [False, True])
def test_the_floor_counts_what_bp_computes(regularized: bool) -> None:
    step = prepared("bp, λ" if regularized else "bp").step
    with FlopCounterMode(display=False) as counter:
        step()
    counted = work("bp", regularized, SMALL)
    # A small WᵀW is computed whole; the counter does not see its product with W, made in place.
    gram = 2 * SMALL.seeds * SMALL.layers * SMALL.width**3 if regularized else 0
    assert counter.get_total_flops() == counted.thin + gram
    assert counted.cubic == gram * 3 / 2


def test_the_floor_counts_a_factorisation() -> None:
    bp, gait = work("bp", True, SMALL), work("gait", True, SMALL)
    assert gait.thin == bp.thin
    factorised = SMALL.seeds * (SMALL.layers - 1)
    assert gait.cubic - bp.cubic == pytest.approx(factorised * 2 / 3 * SMALL.width**3)


def test_peak_memory_is_what_was_taken() -> None:
    taken = peak_bytes(lambda: torch.ones(32 * 2**20, dtype=torch.float32).sum(), CPU)
    assert taken is None or taken / 2**20 == pytest.approx(128, abs=16)


def test_everything_is_timed_in_every_round() -> None:
    calls = []
    seconds = in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, CPU, 0.0, least=3, most=9
    )
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert all(time > 0 for times in seconds.values() for time in times)
    # A short call is repeated until a sample is long enough to be told from the clock's steps.
    assert calls.count("a") > 100


def test_a_measurement_makes_the_tables_and_the_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "shapes", lambda *_: [SMALL])
    monkeypatch.setattr(steps, "PUBLISHED", SMALL)
    monkeypatch.setattr(steps, "CONVOLUTIONAL", CONVOLUTIONAL)
    path = tmp_path / "cpu.json"
    monkeypatch.setattr("sys.argv", ["steps", str(path), "--device", "cpu", "--seconds", "0.1"])
    steps.main()
    document = json.loads(path.read_text())
    (shape,) = document["shapes"]
    step = shape["steps"]["gait, λ"]
    ratio = step["ratio_to"]["bp, λ"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"]
    page = tmp_path / "page.md"
    names = report.tables(document)
    page.write_text("".join(f"<!-- table: cpu {name} -->\n<!-- /table -->\n" for name in names))
    monkeypatch.setattr(report, "PAGES", [page])
    monkeypatch.setattr("sys.argv", ["report", str(path)])
    report.main()
    for table in report.tables(document).values():
        assert table in page.read_text()
    assert (tmp_path / "cpu.svg").stat().st_size > 1000


def test_the_page_shows_the_measurements() -> None:
    text = "\n".join(page.read_text() for page in report.PAGES)
    known = {
        f"{path.stem} {table}": content
        for path in PERFORMANCE.glob("*.json")
        for table, content in report.tables(json.loads(path.read_text())).items()
    }
    assert known
    assert sorted(re.findall(r"<!-- table: (.*?) -->", text)) == sorted(known)
    for name, content in known.items():
        assert f"<!-- table: {name} -->\n\n{content}\n<!-- /table -->" in text


def spread(figures: dict[str, float], digits: str) -> str:
    median, low, high = (format(figures[name], digits) for name in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def test_a_row_is_what_was_measured() -> None:
    """By plain arithmetic: in milliseconds and megabytes, ratios as they stand in the document."""
    document = json.loads((PERFORMANCE / "cpu.json").read_text())
    step = document["shapes"][0]["steps"]["gait, λ"]
    ratios, floor = step["ratio_to"], step["floor_seconds"]
    expected = [
        "**GAIT-prop**, λ",
        spread({name: 1000 * value for name, value in step["seconds"].items()}, ".3g"),
        spread(ratios["autograd BP"], ".2f"),
        spread(ratios["autograd BP, λ"], ".2f"),
        spread(ratios["literal GAIT-prop, λ"], ".2f"),
        spread(ratios["bp, λ"], ".2f"),
        f"{1000 * floor:.1f}",
        f"{100 * floor / step['seconds']['median']:.0f}%",
        f"{step['peak_bytes'] / 1_000_000:.0f}",
    ]
    head, *rows = report.tables(document)["published"].splitlines()
    assert head == (
        "| step | ms | ÷ autograd BP | ÷ autograd BP, λ | ÷ literal | ÷ own BP | floor, ms | floor"
        " ÷ time | peak, MB |"
    )
    assert f"| {' | '.join(expected)} |" in rows


def test_an_aim_is_met_or_missed_as_was_measured() -> None:
    cpu, digits = (
        json.loads((PERFORMANCE / name).read_text()) for name in ("cpu.json", "cpu-digits.json")
    )
    wide = cpu["shapes"][0]["steps"]
    both = wide["gait, λ"]["ratio_to"]["autograd BP, λ"]
    kept = wide["gait, orthogonal"]["ratio_to"]["bp, orthogonal"]
    one, five = (
        each["steps"]["gait, λ"]["seconds"]["median"]
        for seeds in (1, 5)
        for each in digits["shapes"]
        if each["shape"]["seeds"] == seeds
    )
    aims = "".join(report.tables(document)["aims"] for document in (cpu, digits)).splitlines()
    assert aims[0] == "| ratio | at most | measured | |"
    for told, most, middle, measured in (
        ("λ ÷ autograd BP, λ, 784 wide, 1 seed", 0.6, both["median"], spread(both, ".2f")),
        (
            "orthogonal ÷ BP, orthogonal, 784 wide, 1 seed",
            1.15,
            kept["median"],
            spread(kept, ".2f"),
        ),
        ("λ, 64 wide, five seeds ÷ one", 1.6, five / one, f"{five / one:.2f}"),
    ):
        end = "met" if middle <= most else "missed"
        assert f"| **GAIT-prop**, {told} | {most:.2f} | {measured} | {end} |" in aims


def test_a_cpu_is_not_asked_for_what_takes_minutes() -> None:
    everything = steps.shapes(False, "cuda")
    assert [each for each in everything if each not in steps.shapes(False, "cpu")] == [
        each for each in everything if each in steps.LARGEST
    ]
    assert set(everything) > steps.LARGEST
    assert steps.shapes(True, "cpu") == steps.shapes(True, "cuda")
