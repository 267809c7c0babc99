"""``gait verify``: the theorem measured on this machine, as tables, JSON and a figure."""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeElapsedColumn

from gaitprop import numerics
from gaitprop.theorem.comparison import SLOPE
from gaitprop.theorem.verification import GAMMA, Comparison, Verification, verify
from pipeline.project.errors import GaitError
from pipeline.project.files import write_whole

SEEDS = (0, 1, 2)
DIGITS = 3
"""Significant digits that are given: differences at the level of rounding have no more."""


def measure(device: str) -> dict[str, Any]:
    """Everything that ``gait verify`` shows, as one JSON document.

    Numbers that are not finite, and the literal form where a rule has none, are None.

    Raises:
        GaitError: there is no such device.
    """
    numerics.use("portable")
    check_device(device)
    console = Console(stderr=True)
    columns = ("measuring", BarColumn(), TimeElapsedColumn())
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=1.0)
        found = verify(device, SEEDS, lambda share: bar.update(task, completed=share))
    return as_document(found)


def as_document(found: Verification) -> dict[str, Any]:
    """The measurements as ``gait verify --json`` writes them."""
    return {
        "comparisons": [_comparison(row) for row in found.comparisons],
        "convolutions": [
            {**_comparison(row), "network": name}
            for name, rows in found.convolutions.items()
            for row in rows
        ],
        "departures": [_rounded(asdict(row)) for row in found.departures],
        "holds": found.holds,
        "kink": [_comparison(row) for row in found.kink],
        "rescalings": [_rounded(asdict(row)) for row in found.rescalings],
        "settings": {"gamma": GAMMA, "negative_slope": SLOPE, "seeds": list(SEEDS)},
    }


def as_json(document: dict[str, Any]) -> str:
    """Sorted keys, no time, no machine."""
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)


def check_device(device: str) -> None:
    """Raises GaitError unless the device can compute in float64."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ImportError):
        allowed = "cpu" + (", cuda" if torch.cuda.is_available() else "")
        raise GaitError(
            f"device is {device!r}, which cannot compute in float64 here; allowed: {allowed}"
        ) from None


def write_figure(document: dict[str, Any], path: Path) -> None:
    """Draws relative error against depth; the file is there whole or not at all."""
    from pipeline.figures.error_by_depth import error_against_depth

    picture = io.BytesIO()
    error_against_depth(document).savefig(picture, format=path.suffix.lower()[1:], dpi=200)
    write_whole(path, picture.getvalue())


def _comparison(row: Comparison) -> dict[str, Any]:
    figures = _rounded(asdict(row))
    widths = figures.pop("widths")
    hidden, square = len(widths) - 2, widths[0] == widths[-1]
    return {
        **figures,
        "hidden_layers": hidden,
        "network": f"{hidden} × {widths[0]}" if square else "-".join(map(str, widths)),
        "shape": "square" if square else "tower",
        "width": widths[0],
    }


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _significant(value) if isinstance(value, float) else value
        for name, value in figures.items()
    }


def _significant(value: float) -> float | None:
    return float(f"{value:.{DIGITS - 1}e}") if math.isfinite(value) else None
