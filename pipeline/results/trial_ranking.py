"""The table of a sweep's trials: its columns, its order, and which trial is best.

A table has a row a trial and the columns ``trial, rule``, the swept settings by their dotted names,
then ``FIGURES``. Figures are those of the last epoch on the validation set, over the seeds:
accuracies as fractions of 1, standard deviations empty for a single seed, all empty if it failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas

from pipeline.training.epochs import FAILED, FINISHED, STOPPED

METRIC = "validation_accuracy_mean"
FIGURES = (
    "status",
    "epochs",
    METRIC,
    "validation_accuracy_std",
    "validation_loss_mean",
    "validation_loss_std",
    "train_accuracy_mean",
    "failure",
)


def swept_settings(trials: pandas.DataFrame) -> list[str]:
    """The dotted names of what was swept, in the order of params.yaml."""
    return [str(name) for name in trials.columns if name not in ("trial", "rule", *FIGURES)]


def in_file_order(trials: pandas.DataFrame, rules: Sequence[str]) -> pandas.DataFrame:
    """By rule, in the order given, then by the swept values, each ascending."""
    names = swept_settings(trials)
    keys = [
        (rules.index(row["rule"]), *(_sort_key(row[name]) for name in names))
        for row in trials.to_dict("records")
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return trials.iloc[order].reset_index(drop=True)


def ranked(trials: pandas.DataFrame) -> pandas.DataFrame:
    """Best first: finished trials before stopped ones before failed ones, whatever their figures.

    The higher accuracy wins, then the lower loss, then the earlier row.
    """
    status = trials.status.map({FINISHED: 0, STOPPED: 1, FAILED: 2})
    keys = pandas.DataFrame(
        {"status": status, "error": -trials[METRIC], "loss": trials.validation_loss_mean}
    )
    return trials.loc[keys.sort_values(["status", "error", "loss"], kind="stable").index]


def best_trial(trials: pandas.DataFrame) -> dict[str, Any] | None:
    """The best finished trial's row; None if none finished."""
    finished = ranked(trials[trials.status == FINISHED])
    return None if finished.empty else {str(k): v for k, v in finished.iloc[0].to_dict().items()}


def hashable(value: Any) -> Any:
    """A swept value as a key: equal numbers are equal whatever their type; lists as tuples."""
    if isinstance(value, list | tuple):
        return tuple(hashable(item) for item in value)
    return plain(value)


def plain(value: Any) -> Any:
    """A value of a table as a plain Python value."""
    return value.item() if hasattr(value, "item") else value


def _sort_key(value: Any) -> tuple[bool, Any]:
    """Numbers ascend, before texts and lists in the order of their letters."""
    value = plain(value)
    number = isinstance(value, int | float)
    return (not number, value if number else str(value))
