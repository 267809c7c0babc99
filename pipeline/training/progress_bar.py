"""Progress bars on a terminal; elsewhere a line now and then, and one when a model is done."""

from __future__ import annotations

import math
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# The bar is redrawn a few times a second at most, however fast the steps are; where there is no
# terminal a line comes as rarely as this.
REDRAW_S = 0.1
LINE_S = 10.0


class TrainingProgress:
    """Epochs, steps per second and validation accuracy of one model in training.

    ``behind`` of its epochs were trained by another process, before this one.
    """

    def __init__(self, title: str, epochs: int, steps_per_epoch: int, behind: int = 0) -> None:
        self._console = Console(stderr=True)
        self._title, self._epochs, self._behind = title, epochs, behind
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, {task.fields[rate]}"),
            TextColumn("{task.fields[accuracy]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._of_epoch = steps_per_epoch
        total = (epochs - behind) * steps_per_epoch
        self._task = self._bar.add_task(title, total=total, rate="", accuracy="")
        self._steps = 0
        self._last_epoch, self._last_accuracy = behind, math.nan
        self._started = self._drawn = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._bar.stop()
        if kind is None:
            seconds = time.monotonic() - self._started
            print(
                f"{self._title}: {self._last_epoch - self._behind} epochs in {seconds:.1f} s"
                f"{self._accuracy()}",
                flush=True,
            )

    def step(self, steps: int) -> None:
        """Counts finished steps."""
        self._steps += steps
        now = time.monotonic()
        if now - self._drawn >= (REDRAW_S if self._console.is_terminal else LINE_S):
            self._drawn = now
            rate = f"{self._steps / (now - self._started):.0f} a second"
            self._bar.update(self._task, completed=self._steps, rate=rate)
            if not self._console.is_terminal:
                self._line(rate)

    def epoch(self, epoch: int, validation_accuracy: float) -> None:
        """Shows the epoch's number and the mean validation accuracy over the seeds."""
        self._last_epoch, self._last_accuracy = epoch, validation_accuracy
        self._bar.update(
            self._task,
            completed=self._steps,
            description=f"{self._title}, epoch {epoch} of {self._epochs}",
            accuracy=f"validation {validation_accuracy:.2%}",
        )

    def _line(self, rate: str) -> None:
        epoch, step = divmod(self._steps - 1, self._of_epoch)
        print(
            f"{self._title}: epoch {self._behind + epoch + 1} of {self._epochs}, step {step + 1} of"
            f" {self._of_epoch} ({rate}){self._accuracy()}",
            file=sys.stderr,
            flush=True,
        )

    def _accuracy(self) -> str:
        """Nothing before the first epoch of a training that goes on."""
        if math.isnan(self._last_accuracy):
            return ""
        return f", validation accuracy {self._last_accuracy:.2%}"
