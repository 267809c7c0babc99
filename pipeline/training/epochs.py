"""What is known of an epoch once it is over, and how a training or a trial stands."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

FINISHED, STOPPED, FAILED = "FINISHED", "STOPPED", "FAILED"
# Of what has not ended: under way, or until somebody goes on with it.
RUNNING, KILLED = "RUNNING", "KILLED"

# Of a row, with early stopping: the seed's best epoch so far.
KEPT = "kept_epoch"


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number, when it ended, and a row of figures a seed."""

    epoch: int
    ended_ms: int
    rows: list[dict[str, float]]

    def means(self) -> dict[str, float]:
        """The mean over the seeds of every quantity."""
        quantities = [name for name in self.rows[0] if name not in ("epoch", "seed")]
        return {name: math.fsum(self._of(name)) / len(self.rows) for name in quantities}

    def mean(self, quantity: str) -> float:
        """The mean over the seeds of one quantity, NaN where the epoch has none."""
        values = self._of(quantity)
        return math.fsum(values) / len(values) if values else math.nan

    def spread(self, quantity: str) -> float:
        """The sample standard deviation over the seeds, NaN for a single one."""
        values = self._of(quantity)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def _of(self, quantity: str) -> list[float]:
        return [row[quantity] for row in self.rows if quantity in row]


def kept(epochs: Sequence[Epoch]) -> Epoch:
    """The last of a training's epochs, all of them from 0 on, with the figures of what is kept.

    With early stopping that is each seed's own best.
    """
    last = epochs[-1]
    rows = [
        epochs[int(row[KEPT])].rows[index] if KEPT in row else row
        for index, row in enumerate(last.rows)
    ]
    return replace(last, rows=rows)
