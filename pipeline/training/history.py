"""Epoch records as a table: one row an epoch and seed, one column a quantity.

Columns: epoch, seed, train_loss, train_accuracy (empty at epoch 0), validation_loss,
validation_accuracy, with early stopping kept_epoch (the seed's best so far), then for each layer,
from 1: orthogonality_defect_layer_1…, condition_number_layer_1…, bp_cosine_layer_1…,
bp_relative_norm_layer_1…, defect_of_errors_layer_1…, and for rules that learn inverses
inverse_defect_layer_2… (empty between two intervals of the diagnostics).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gaitprop.training import EpochRecord
from pipeline.training.epochs import KEPT

if TYPE_CHECKING:
    # Half a second at the start of each training, which reads no table.
    import pandas


def rows(record: EpochRecord, seeds: Sequence[int]) -> list[dict[str, float]]:
    """The rows of one epoch, a seed each; what does not exist is left out."""
    return [_row(record, index, seed) for index, seed in enumerate(seeds)]


def write(path: Path, table: Sequence[dict[str, float]]) -> None:
    """Writes rows as CSV; floats in the shortest form that reads back to the same bits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        # The longest row has all columns: epoch 0 has no training figures, others no diagnostics.
        columns = max(map(list, table), key=len)
        writer = csv.DictWriter(file, fieldnames=columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def read(path: Path) -> pandas.DataFrame:
    """The table as written; missing values are NaN."""
    import pandas

    return pandas.read_csv(path)


def kept(table: pandas.DataFrame) -> pandas.DataFrame:
    """The row of each seed whose weights are kept, by seed: its last, or its best epoch's."""
    last = table[table.epoch == table.epoch.max()].set_index("seed")
    if KEPT not in table:
        return last
    rows = table.set_index(["seed", "epoch"], drop=False)
    return rows.loc[list(last[KEPT].items())].set_index("seed")


def _row(record: EpochRecord, index: int, seed: int) -> dict[str, float]:
    row: dict[str, float] = {"epoch": record.epoch, "seed": seed}
    if record.training is not None:
        row["train_loss"] = record.training.loss[index].item()
        row["train_accuracy"] = record.training.accuracy[index].item()
    row["validation_loss"] = record.validation.loss[index].item()
    row["validation_accuracy"] = record.validation.accuracy[index].item()
    if record.kept is not None:
        row[KEPT] = int(record.kept[index])
    found = record.diagnostics
    if found is None:
        return row
    depth = found.bp_cosine.shape[-1]
    for quantity, values in found._asdict().items():
        if values is not None:
            of_seed = values[index].tolist()
            # What the first layer does not have begins with the second.
            layers = range(depth - len(of_seed) + 1, depth + 1)
            row |= {f"{quantity}_layer_{n}": v for n, v in zip(layers, of_seed, strict=True)}
    return row
