"""What portable numerics cost: a training step, portable ÷ fast.

    python -m benchmarks.portable results/performance/cpu-portable.json [--threads 1]

A process computes in one way alone, so there are two, which take their turns round by round.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.contestants import EXACT, Shape, contestant, ours
from benchmarks.steps import machine
from gaitprop import numerics

SHAPES = [
    *(Shape(64, 4, 30, seeds) for seeds in (1, 5)),
    *(Shape(width, 4, 60, seeds) for width in (256, 784) for seeds in (1, 5)),
]
STEPS = [ours(rule, regularized) for rule in EXACT for regularized in (False, True)]
ROUNDS, SAMPLE_S = 7, 0.05


def main() -> None:
    """Measures every shape and writes what was found; or takes turns, as one of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", help="the JSON file to write")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--mode", choices=numerics.MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode is not None:
        take_turns(options.mode, options.threads)
        return
    rows = [row for shape in SHAPES for row in measure(shape, options.threads)]
    here = {**machine(torch.device("cpu")), "threads": options.threads}
    document = {"machine": here, "numerics": rows, "rounds": ROUNDS}
    options.output.write_text(json.dumps(document, indent=1) + "\n")


def measure(shape: Shape, threads: int) -> list[dict[str, Any]]:
    """For each step its seconds in both ways, and the median and extremes of the rounds' ratios."""
    processes = {}
    for mode in numerics.MODES:
        command = [sys.executable, "-m", "benchmarks.portable", "--mode", mode]
        processes[mode] = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    rows = []
    for step in STEPS:
        seconds: dict[str, list[float]] = {mode: [] for mode in numerics.MODES}
        for _ in range(ROUNDS):
            for mode, process in processes.items():
                assert process.stdin is not None
                assert process.stdout is not None
                print(json.dumps([vars(shape), step]), file=process.stdin, flush=True)
                seconds[mode].append(float(process.stdout.readline()))
        pairs = zip(seconds["portable"], seconds["fast"], strict=True)
        ratios = [portable / fast for portable, fast in pairs]
        row = {mode: median(values) for mode, values in seconds.items()}
        found = {"ratio": median(ratios), "low": min(ratios), "high": max(ratios)}
        rows.append({"shape": vars(shape), "step": step, **row, **found})
        print(f"{shape.width} wide, {shape.seeds} seeds, {step}: {found['ratio']:.2f}", flush=True)
    for process in processes.values():
        process.communicate("")
    return rows


def take_turns(mode: str, threads: int) -> None:
    """Reads a shape and a step from each line, and prints the seconds of one such step."""
    numerics.use(mode, threads)
    asked, step, repeats = "", None, 1
    for line in sys.stdin:
        if line != asked:
            shape, name = json.loads(line)
            asked, step = line, contestant(name, Shape(**shape), torch.device("cpu")).step
            step()
            began = time.perf_counter()
            step()
            repeats = max(1, round(SAMPLE_S / (time.perf_counter() - began)))
        assert step is not None
        began = time.perf_counter()
        for _ in range(repeats):
            step()
        print((time.perf_counter() - began) / repeats, flush=True)


if __name__ == "__main__":
    main()
