"""Draws the table of imports: ``python -m tests.pipeline.architecture_picture FILE``."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

import numpy
from matplotlib.figure import Figure

from pipeline.figures.style import StyledFigure, style
from tests.pipeline.imports import ORDER, imported, modules, place
from tests.pipeline.project_copy import REPOSITORY


def counts() -> numpy.ndarray:
    """How many imports each folder (row) has from each (column), in the folders' order."""
    known = modules()
    found: Counter[tuple[int, int]] = Counter()
    for name, path in known.items():
        here = place(name)
        for other in imported(path.read_text(encoding="utf-8"), known):
            there = place(other)
            if here is not None and there is not None and here != there:
                found[here, there] += 1
    table = numpy.zeros((len(ORDER), len(ORDER)), dtype=int)
    for (here, there), count in found.items():
        table[here, there] = count
    return table


def purpose(folder: str) -> str:
    """The first sentence of the folder's own docstring."""
    where = folder if folder == "gaitprop" else f"pipeline/{folder}"
    text = (REPOSITORY / where / "__init__.py").read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(text)) or ""
    return said.split("\n")[0].replace("``", "").replace("`", "")


def draw(table: numpy.ndarray) -> Figure:
    """A square of counts: rows import from columns; above the diagonal there is nothing."""
    with style():
        figure = StyledFigure(figsize=(10.5, 4.6), layout="none")
        axes = figure.add_axes((0.075, 0.03, 0.4, 0.85))
        shades = numpy.where(table > 0, 0.25 + 0.6 * table / table.max(), 0.0)
        axes.imshow(shades, cmap="Blues", vmin=0, vmax=1)
        for row, name in enumerate(ORDER):
            for column in range(len(ORDER)):
                if count := table[row, column]:
                    dark = shades[row, column] > 0.6
                    axes.text(
                        column, row, str(count), ha="center", va="center",
                        fontsize=7, color="white" if dark else "black",
                    )  # fmt: skip
            axes.text(len(ORDER) - 0.2, row, purpose(name), va="center", fontsize=8)
        axes.plot((-0.5, len(ORDER) - 0.5), (-0.5, len(ORDER) - 0.5), color="0.5", linewidth=0.6)
        axes.set_xticks(range(len(ORDER)), ORDER, rotation=60, ha="left")
        axes.set_yticks(range(len(ORDER)), ORDER)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.grid(False)
    return figure


if __name__ == "__main__":
    draw(counts()).savefig(Path(sys.argv[1]))
