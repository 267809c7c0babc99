"""The time of a training step, as a ratio to others of the same run; needs torch alone.

    python -m benchmarks.steps OUTPUT.json [--device cuda] [--seconds 5] [--digits] [--threads 1]

Everything that is compared is timed in turn, round by round, and a ratio is the median of the
rounds' own ratios. `make bench` runs this and makes the table, the plot and docs/performance.md's
figures of what it writes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from benchmarks import contestants, floor
from benchmarks.contestants import (
    AUTOGRAD_BP,
    AUTOGRAD_BP_REGULARIZED,
    EXACT,
    LITERAL,
    Shape,
    by_module,
    constrained,
    ours,
)
from benchmarks.memory import peak_bytes
from benchmarks.timing import in_turn

PUBLISHED = Shape(width=784, hidden_layers=4, batch_size=60, seeds=1)
OURS = [ours(rule, regularized) for rule in EXACT for regularized in (False, True)]
CONSTRAINED = [constrained("bp"), constrained("gait")]
EVERYTHING = [
    *(AUTOGRAD_BP, AUTOGRAD_BP_REGULARIZED, LITERAL),
    *(*OURS, *CONSTRAINED, by_module("gait")),
]
# What the other shapes are measured with; those of one seed by a torch model, too.
FEW = [AUTOGRAD_BP, AUTOGRAD_BP_REGULARIZED, "bp", "bp, λ", "gait", "gait, λ", *CONSTRAINED]
# What a step is compared to.
BASES = (AUTOGRAD_BP, AUTOGRAD_BP_REGULARIZED, LITERAL, "bp", "bp, λ", "gait", CONSTRAINED[0])
CONVOLUTIONAL = Shape(width=784, hidden_layers=2, batch_size=60, seeds=1, convolutional=True)
CUBIC, THIN = "n × n by n × n", "b × n by n × n"


# Minutes each on a CPU.
LARGEST = {Shape(2048, 16, 60, 1), Shape(2048, 4, 512, 1), Shape(784, 4, 60, 16)}


def shapes(digits: bool, device: str) -> list[Shape]:
    """The published shape first, then widths, depths, batches and seeds around it."""
    if digits:
        return [Shape(64, 4, 30, seeds) for seeds in (1, 5, 16)]
    widths = [64, 256, 784, 2048]
    found = [PUBLISHED]
    found += [Shape(width, layers, 60, 1) for layers in (4, 16) for width in widths]
    found += [Shape(width, 4, 512, 1) for width in widths]
    found += [Shape(width, 4, 60, seeds) for width in widths[:3] for seeds in (5, 16)]
    return [shape for shape in dict.fromkeys(found) if device != "cpu" or shape not in LARGEST]


def main() -> None:
    """Measures every shape and writes what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="the JSON file to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=5.0, help="a shape is measured for")
    parser.add_argument("--digits", action="store_true", help="the digits' network alone")
    parser.add_argument("--threads", type=int, help="of the CPU; PyTorch's choice if not given")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    # The libraries' own memory is taken at the first use, and is nobody's.
    _peak(AUTOGRAD_BP, Shape(64, 1, 60, 1), device)
    measured: list[dict[str, Any]] = []
    for shape in shapes(options.digits, device.type):
        names = EVERYTHING if shape == PUBLISHED else FEW
        if names is FEW and shape.seeds == 1 and shape.width == 256:
            names = [*FEW, by_module("gait")]
        measured.append(measure(shape, names, device, options.seconds))
        print(_line(measured[-1]), file=sys.stderr, flush=True)
        # What has been measured is not lost if the rest is interrupted.
        content = {"machine": machine(device), "shapes": measured}
        _write(options.output, content)
    if not options.digits:
        names = [AUTOGRAD_BP, "bp", "gait", *CONSTRAINED]
        found = measure(CONVOLUTIONAL, names, device, options.seconds)
        print(_line(found), file=sys.stderr, flush=True)
        _write(options.output, content | {"convolutions": found})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def measure(
    shape: Shape, names: list[str], device: torch.device, budget_s: float
) -> dict[str, Any]:
    """Times, ratios, floors and memory of each contestant at one shape."""
    contestants.start(shape, device)  # takes memory that is not a contestant's
    memory = {name: _peak(name, shape, device) for name in names}
    (cubic, cubic_work), (thin, thin_work) = floor.products(shape, device)
    calls = {name: contestants.contestant(name, shape, device).step for name in names}
    seconds = in_turn(calls | {CUBIC: cubic, THIN: thin}, device, budget_s)
    speed = {
        CUBIC: cubic_work / median(seconds[CUBIC]),
        THIN: thin_work / median(seconds[THIN]),
    }
    return {
        "shape": vars(shape),
        "rounds": len(seconds[THIN]),
        "operations_a_second": speed,
        "steps": {
            name: {
                "seconds": spread(seconds[name]),
                "peak_bytes": memory[name],
                "ratio_to": {
                    other: spread(
                        [a / b for a, b in zip(seconds[name], seconds[other], strict=True)]
                    )
                    for other in names
                    if other in BASES
                },
                **_floor(name, shape, speed),
            }
            for name in names
        },
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Where this was measured, and with what."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "platform": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    """The CPU's name and the widest vectors that PyTorch uses on it."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _floor(name: str, shape: Shape, speed: dict[str, float]) -> dict[str, float]:
    rule, _, how = name.partition(", ")
    if rule not in EXACT or how not in ("", "λ") or shape.convolutional:
        return {}
    work = floor.work(rule, how == "λ", shape)
    return {
        "operations": work.cubic + work.thin,
        "floor_seconds": work.cubic / speed[CUBIC] + work.thin / speed[THIN],
    }


def _peak(name: str, shape: Shape, device: torch.device) -> int | None:
    def run() -> None:
        call = contestants.contestant(name, shape, device).step
        for _ in range(3):
            call()

    return peak_bytes(run, device)


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, _, high = quantiles(values, n=4)
    return {"median": median(values), "low": low, "high": high}


def _line(measured: dict[str, Any]) -> str:
    shape, steps = measured["shape"], measured["steps"]
    times = ", ".join(
        f"{name} {step['seconds']['median'] * 1000:.2f} ms" for name, step in steps.items()
    )
    label = f"{shape['width']} × {shape['hidden_layers']}, b {shape['batch_size']}"
    return f"{label}, S {shape['seeds']} ({measured['rounds']} rounds): {times}"


if __name__ == "__main__":
    main()
