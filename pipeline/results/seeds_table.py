"""seeds.csv, the table of a profile's evaluation: a row a model and seed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas

from pipeline.params.schema import Params
from pipeline.project.errors import GaitError
from pipeline.project.paths import ModelKey, results_folder
from pipeline.training.model_files import result_checksum

FILE = "seeds.csv"
# What tells its rows apart.
COLUMNS = ("dataset", "architecture", "model", "seed", "result")


def path_of(params: Params) -> Path:
    """Where the profile's table lies."""
    return results_folder(params.profile) / FILE


def read(path: Path, columns: Sequence[str] = COLUMNS) -> pandas.DataFrame:
    """The table, with at least these columns.

    Raises:
        GaitError: there is none, or it is no such table.
    """
    if not path.is_file():
        raise GaitError(f"{path} is missing: run `gait evaluate`, or `gait repro`")
    return parsed(path, str(path), columns)


def parsed(
    source: Path | io.StringIO, name: str, columns: Sequence[str] = COLUMNS
) -> pandas.DataFrame:
    """A table with at least these columns, from a file or a text, which errors call ``name``.

    Raises:
        GaitError: it is no such table.
    """
    try:
        table = read_csv(source, set(COLUMNS) - {"seed"})
    except ValueError as error:  # pandas' own, and of bytes that are no text.
        raise GaitError(f"{name} is no table ({error}): `gait evaluate` writes it") from None
    if lacking := [each for each in columns if each not in table]:
        raise GaitError(f"{name} lacks {', '.join(lacking)}: `gait evaluate` writes it")
    return table


def read_csv(source: Path | io.StringIO, names: Iterable[str]) -> pandas.DataFrame:
    """A table with these columns as they are: names may look like numbers, or like "missing"."""
    kinds = dict.fromkeys(names, str)
    return pandas.read_csv(source, dtype=kinds, keep_default_na=False, na_values=[""])


def of_case(seeds: pandas.DataFrame, dataset: str, architecture: str) -> pandas.DataFrame:
    """The rows of one data set and architecture."""
    return seeds[(seeds.dataset == dataset) & (seeds.architecture == architecture)]


def read_of_models(params: Params, keys: Iterable[ModelKey]) -> pandas.DataFrame:
    """The profile's table, which is of the very models in these models' folders, and no others.

    Raises:
        GaitError: there is none, or it is of others.
    """
    path = path_of(params)
    seeds = read(path)
    names = ["dataset", "architecture", "model"]
    evaluated = {tuple(row[n] for n in names): row["result"] for row in seeds.to_dict("records")}
    for key in keys:
        known = evaluated.pop((key.dataset, key.architecture, key.model), None)
        if known != result_checksum(key.folder):
            raise GaitError(f"{path} is not of the model in {key.folder}: run `gait evaluate`")
    if evaluated:
        other = "/".join(map(str, next(iter(evaluated))))
        raise GaitError(f"{path} is of other models, too ({other}): run `gait evaluate`")
    return seeds
