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
REPOSITORY = Path(__file__).parents[2]


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
    shown = set(re.findall(r"<!-- table: ([\w-]+) \w+ -->", text))
    assert shown
    for name in shown:
        document = json.loads((REPOSITORY / "results" / "performance" / f"{name}.json").read_text())
        for table, content in report.tables(document).items():
            assert f"<!-- table: {name} {table} -->\n\n{content}\n<!-- /table -->" in text


def test_a_cpu_is_not_asked_for_what_takes_minutes() -> None:
    everything = steps.shapes(False, "cuda")
    assert [each for each in everything if each not in steps.shapes(False, "cpu")] == [
        each for each in everything if each in steps.LARGEST
    ]
    assert set(everything) > steps.LARGEST
    assert steps.shapes(True, "cpu") == steps.shapes(True, "cuda")
