"""What a user sees of a sweep: a live table on a terminal, a line a finished trial elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.params.labels import model_names, setting_name, value_text
from pipeline.params.schema import Params
from pipeline.sweep.trial_records import Record
from pipeline.training.epochs import FAILED, FINISHED, kept

# More trials than this at once are counted, not shown.
SHOWN = 12


class Display:
    """A listener that shows how the sweep stands."""

    def __init__(self, params: Params, trials: int, ended: Iterable[Record]) -> None:
        self._names = list(params.sweep.space)
        self._rules = model_names(params, params.sweep.rules)
        self._trials, self._ended = trials, 0
        self._running: dict[str, Record] = {}
        self._best: dict[str, Record] = {}
        self._console = Console(stderr=True)
        self._terminal = self._console.is_terminal
        self._progress = Progress(
            TextColumn(params.sweep.name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
        )
        self._task = self._progress.add_task("", total=trials)
        for record in ended:
            self._count(record)

    def live(self) -> AbstractContextManager[object]:
        """Within it the table is redrawn, on a terminal."""
        if not self._terminal:
            return nullcontext()
        return Live(get_renderable=self._table, console=self._console, transient=True)

    def tell(self, sentence: str) -> None:
        """A sentence above the table."""
        self._console.print(f"gait: {sentence}", highlight=False, markup=False, soft_wrap=True)

    def going(self, record: Record) -> None:
        """See ``Listener``."""
        self._running[record.trial] = record

    def ended(self, record: Record) -> None:
        """See ``Listener``."""
        self._running.pop(record.trial, None)
        self._count(record)
        self._line(record, _outcome(record))

    def lost(self, record: Record) -> None:
        """See ``Listener``."""
        self._running.pop(record.trial, None)
        self._line(record, f"lost: {record.failure}")

    def _count(self, record: Record) -> None:
        self._ended += 1
        self._progress.update(self._task, completed=self._ended)
        best = self._best.get(record.rule)
        if record.status == FINISHED and (best is None or _accuracy(record) > _accuracy(best)):
            self._best[record.rule] = record

    def _line(self, record: Record, outcome: str) -> None:
        if not self._terminal:
            where = f"{self._ended} of {self._trials}"
            print(f"{record.trial} {record.configuration}: {outcome} ({where})", flush=True)

    def _table(self) -> Group:
        settings = map(setting_name, self._names)
        table = Table("", "rule", *settings, "epoch", "validation accuracy", box=None)
        running = list(self._running.values())
        for each in running[:SHOWN]:
            table.add_row("running", *self._cells(each), *_figures(each))
        if len(running) > SHOWN:
            table.add_row(f"and {len(running) - SHOWN} more")
        for record in list(self._best.values()):
            table.add_row("best", *self._cells(record), *_figures(record), style="bold")
        return Group(table, self._progress)

    def _cells(self, record: Record) -> list[str]:
        return [self._rules[record.rule], *(value_text(record.values[n]) for n in self._names)]


def _figures(record: Record) -> tuple[str, str]:
    if not record.epochs:
        return "", ""
    last = kept(record.epochs)
    spread = last.spread("validation_accuracy")
    more = "" if math.isnan(spread) else f" ± {spread:.2%}"
    return str(last.epoch), f"{last.mean('validation_accuracy'):.2%}{more}"


def _accuracy(record: Record) -> float:
    return kept(record.epochs).mean("validation_accuracy")


def _outcome(record: Record) -> str:
    if record.status == FAILED or not record.epochs:
        return f"failed: {record.failure}"
    epoch, accuracy = _figures(record)
    early = "" if record.status == FINISHED else f", stopped early after epoch {epoch}"
    return f"validation accuracy {accuracy}{early}"
