"""A table that somebody may have changed by hand: names and numbers in every cell, or a refusal."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pandas

from pipeline.project.errors import GaitError
from pipeline.results import seeds_table


def whole_table(
    text: str, name: str, columns: Sequence[str], figures: Sequence[str] | None = None
) -> pandas.DataFrame:
    """The table of a text, with at least these columns; of numbers where they are figures.

    ``figures`` may name some that it does not have; None: every column that is no name. GaitError,
    which calls the table by its name, if it is none, has no rows, or one of its cells is empty or
    none of these numbers.
    """
    table = seeds_table.parsed(io.StringIO(text), name, columns)
    if table.empty:
        raise GaitError(f"{name} has no rows: `gait evaluate` writes it")
    if figures is None:
        figures = [each for each in table if each not in set(columns) - {"seed"}]
    for column in (*columns, *(each for each in figures if each in table)):
        if column in figures:
            try:
                table[column] = pandas.to_numeric(table[column])
            except ValueError as error:
                raise GaitError(
                    f"{name}, {column}: {error}; allowed: numbers, as `gait evaluate` writes them"
                ) from None
        if table[column].isna().any():
            raise GaitError(f"{name}, {column}: received an empty cell; allowed: none is empty")
    return table
