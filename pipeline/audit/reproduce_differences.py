"""Where two trainings of a model differ, and by how much."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pandas
from safetensors.torch import load_file

from pipeline.training import history, model_files
from pipeline.training.experiment import flat
from pipeline.training.model_files import result_checksum

# What a setting is that one of two records does not have.
_NOTHING = object()


class Difference(NamedTuple):
    """One quantity that differs.

    Attributes:
        what: a column of the history, or a tensor of the network.
        where: the first place at which it differs.
        absolute: the largest difference, NaN where there are no two numbers.
        relative: the largest difference relative to the recorded value.
    """

    what: str
    where: str
    absolute: float = math.nan
    relative: float = math.nan


def of_models(recorded: Path, again: Path) -> list[Difference]:
    """Every column of the history, tensor of the network and setting that is not the same.

    It is empty only if every file of the model, or of its MLflow run's artifacts, is the same to
    the bit.
    """
    found = of_tables(
        history.read(recorded / model_files.HISTORY),
        history.read(again / model_files.HISTORY),
        ["epoch", "seed"],
    )
    old, new = (load_file(each / model_files.NETWORK) for each in (recorded, again))
    for name in sorted({*old, *new}):
        if name not in old or name not in new or old[name].shape != new[name].shape:
            found.append(Difference(name, "its shape"))
            continue
        before, now = (each[name].double().numpy() for each in (old, new))
        # Equal bits, not equal numbers: 0.0 and -0.0 differ.
        if old[name].numpy().tobytes() != new[name].numpy().tobytes():
            place = tuple(int(index) for index in numpy.argwhere(before != now)[:1].ravel())
            found.append(_difference(name, f"element {place}", before, now))
    configs = [flat(model_files.read_config(each)) for each in (recorded, again)]
    found += [
        Difference(name, model_files.CONFIG)
        for name in sorted({*configs[0], *configs[1]})
        if configs[0].get(name, _NOTHING) != configs[1].get(name, _NOTHING)
    ]
    if not found and result_checksum(recorded) != result_checksum(again):
        # Their text alone: as nothing that is read from them says so.
        found.append(Difference("the model's files", "their bytes"))
    return found


def of_tables(old: pandas.DataFrame, new: pandas.DataFrame, keys: list[str]) -> list[Difference]:
    """Every column of numbers that differs between two tables of the same rows."""
    found = []
    if old[keys].to_numpy().tolist() != new[keys].to_numpy().tolist():
        return [Difference("rows", ", ".join(keys))]
    for name in old.columns.union(new.columns, sort=False):
        if name not in old or name not in new:
            found.append(Difference(name, "the whole column"))
            continue
        if name in keys or not pandas.api.types.is_numeric_dtype(old[name]):
            continue
        before, now = old[name].to_numpy(), new[name].to_numpy()
        differ = (before != now) & ~(numpy.isnan(before) & numpy.isnan(now))
        if differ.any():
            row = old.iloc[int(differ.argmax())]
            place = ", ".join(
                f"{key} {row[key]:g}" for key in keys if not isinstance(row[key], str)
            )
            found.append(_difference(name, place, before[differ], now[differ]))
    return found


def _difference(name: str, where: str, before: Any, now: Any) -> Difference:
    gap = numpy.abs(now - before)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        relative = numpy.where(gap == 0, 0.0, gap / numpy.abs(before))
    return Difference(name, where, float(gap.max()), float(relative.max()))
