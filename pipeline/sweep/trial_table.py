"""Records as the table that a sweep's results are made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas

from pipeline.params.schema import Params
from pipeline.sweep.trial_records import Record
from pipeline.training.epochs import FINISHED, STOPPED, kept


def table(params: Params, ended: Mapping[str, Record]) -> pandas.DataFrame:
    """A row a trial, as they ended: what was tried, and what came of it, over the seeds.

    Returns:
        Columns ``trial, rule``, the swept names, ``status, epochs, validation_accuracy_mean,
        validation_accuracy_std, validation_loss_mean, validation_loss_std, train_accuracy_mean,
        failure``; accuracies as fractions of 1. Figures of failed trials are empty.
    """
    names = list(params.sweep.space)
    return pandas.DataFrame([_row(names, record) for record in ended.values()])


def _row(names: list[str], record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": record.trial, "rule": record.rule}
    row |= {name: record.values[name] for name in names}
    last = kept(record.epochs) if record.epochs else None
    row |= {"status": record.status, "epochs": last.epoch if last else 0}
    shown = last if record.status in (FINISHED, STOPPED) else None
    for quantity in ("validation_accuracy", "validation_loss"):
        row[f"{quantity}_mean"] = shown.mean(quantity) if shown else None
        row[f"{quantity}_std"] = shown.spread(quantity) if shown else None
    row["train_accuracy_mean"] = shown.mean("train_accuracy") if shown else None
    row["failure"] = record.failure
    return row
