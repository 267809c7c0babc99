"""Every rule is measured, and its arithmetic is what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report, rules
from benchmarks.contestants import Shape, contestant
from benchmarks.floor import work
from gaitprop.rules import RULES

SMALL = Shape(width=24, hidden_layers=2, batch_size=10, seeds=2)
SOLVING = ("gait", "itp", "tp", "damped")


@pytest.mark.parametrize("rule", RULES)
def test_the_arithmetic_is_what_is_computed(rule: str) -> None:
    step = contestant(rule, SMALL, torch.device("cpu")).step
    with FlopCounterMode(display=False) as counter:
        step()
    upper, n = SMALL.layers - 1, SMALL.width
    thin = work(rule, False, SMALL).thin
    # The counter sees neither a factorisation nor a solve; a small WᵀW is computed whole.
    if rule in SOLVING:
        thin -= SMALL.seeds * upper * 2 * SMALL.batch_size * n**2
    gram = SMALL.seeds * upper * 2 * n**3 if rule == "damped" else 0
    assert counter.get_total_flops() == thin + gram
    cubes = work(rule, False, SMALL).cubic / (SMALL.seeds * upper * n**3)
    assert cubes == pytest.approx((rule in SOLVING) * 2 / 3 + (rule == "damped"))


def test_a_measurement_makes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SHAPES", [SMALL, SMALL])
    path = tmp_path / "cpu-rules.json"
    options = ["--device", "cpu", "--seconds", "0.01"]
    monkeypatch.setattr("sys.argv", ["rules", str(path), *options])
    threads = torch.get_num_threads()
    try:
        rules.main()
    finally:
        torch.set_num_threads(threads)
    found = report.tables(json.loads(path.read_text()))
    lines = found["steps"].splitlines()
    assert len(lines) == 2 + len(RULES) + 2
    assert all(line.count("|") == lines[0].count("|") for line in lines[: 2 + len(RULES)])
    for rule in RULES:
        assert any(line.startswith(f"| {report.title(rule)} |") for line in lines)
