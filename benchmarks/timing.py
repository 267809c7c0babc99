"""Times of several things, taken in turn, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

# A sample lasts at least so long: short calls are repeated within it.
SAMPLE_S = 0.02


def in_turn(
    calls: Mapping[str, Callable[[], object]],
    device: torch.device,
    budget_s: float,
    least: int = 3,
    most: int = 200,
) -> dict[str, list[float]]:
    """Seconds a call, by name, one sample of each in every round.

    Args:
        calls: what is measured.
        device: waited for before the clock is read.
        budget_s: no round begins later than this.
        least: rounds, whatever the budget.
        most: rounds.
    """
    repeats = {name: _repeats(call, device) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - began > budget_s:
            break
        for name, call in calls.items():
            seconds[name].append(_seconds(call, repeats[name], device))
    return seconds


def _repeats(call: Callable[[], object], device: torch.device) -> int:
    """After two calls to warm up, how many make a sample."""
    _seconds(call, 2, device)
    return max(1, round(SAMPLE_S / max(_seconds(call, 1, device), 1e-6)))


def _seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)
    return (time.perf_counter() - began) / repeats


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
