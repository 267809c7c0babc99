"""What is known of one training: what it is, how far it is, how it ended.

This is the truth about it. Its MLflow runs are made from it, however often the process or the
MLflow server had to start anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.training.epochs import RUNNING, Epoch


@dataclass(frozen=True)
class Training:
    """One training of one model, all its seeds.

    Attributes:
        id: names it in the MLflow store; the same after an interruption.
        experiment: the MLflow experiment.
        name: of the MLflow runs.
        folder: where the model is once training has ended well.
        seeds: of the networks.
        parameters: what decides the figures, under dotted names.
        tags: where and with what it began.
        started_ms: when it began.
        epochs: those that are behind, from 0 on.
        seconds: how long training took so far, interruptions left out.
        warning: what a reader of the runs should know.
        status: RUNNING, KILLED (until somebody goes on), FINISHED or FAILED.
        ended_ms: when it ended.
        outcome: further tags, of what came of it.
    """

    id: str
    experiment: str
    name: str
    folder: str
    seeds: Sequence[int]
    parameters: dict[str, Any]
    tags: dict[str, str]
    started_ms: int
    epochs: Sequence[Epoch] = ()
    seconds: float = 0.0
    warning: str | None = None
    status: str = RUNNING
    ended_ms: int | None = None
    outcome: dict[str, str] = field(default_factory=dict)


def ended(training: Training, status: str, outcome: dict[str, str]) -> Training:
    """The training as it ended just now."""
    now = int(time.time() * 1000)
    return replace(training, status=status, ended_ms=now, outcome=outcome)


def as_plain(training: Training) -> dict[str, Any]:
    """The record as JSON and states can hold it."""
    return asdict(training)


def from_plain(content: dict[str, Any]) -> Training:
    """The record that ``as_plain`` was given; TypeError or KeyError if it is not one."""
    epochs = [Epoch(**each) for each in content["epochs"]]
    return Training(**{**content, "epochs": epochs})
