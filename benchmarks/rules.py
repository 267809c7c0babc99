"""The time of a step by every rule, as a ratio to BP's, beside its arithmetic; needs torch alone.

python -m benchmarks.rules results/performance/cpu-rules.json [--threads 1] [--seconds 5]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks import floor
from benchmarks.contestants import Shape, contestant
from benchmarks.steps import machine, spread
from benchmarks.timing import in_turn
from gaitprop.rules import RULES

SHAPES = [Shape(64, 4, 30, 1), Shape(256, 4, 60, 1)]


def main() -> None:
    """Measures every rule at every shape and writes what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="the JSON file to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=5.0, help="a shape is measured for")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    measured = [measure(shape, device, options.seconds) for shape in SHAPES]
    document = {"machine": machine(device), "rules": measured}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1) + "\n")


def measure(shape: Shape, device: torch.device, budget_s: float) -> dict[str, Any]:
    """Seconds, ratio to BP, and operations of a step by each rule, without λ."""
    calls = {rule: contestant(rule, shape, device).step for rule in RULES}
    seconds = in_turn(calls, device, budget_s)
    works = {rule: floor.work(rule, False, shape) for rule in RULES}
    operations = {rule: work.cubic + work.thin for rule, work in works.items()}
    steps = {
        rule: {
            "seconds": spread(seconds[rule]),
            "ratio": spread([a / b for a, b in zip(seconds[rule], seconds["bp"], strict=True)]),
            "operations": operations[rule],
            "operations_ratio": operations[rule] / operations["bp"],
        }
        for rule in RULES
    }
    return {"shape": vars(shape), "rounds": len(seconds["bp"]), "steps": steps}


if __name__ == "__main__":
    main()
