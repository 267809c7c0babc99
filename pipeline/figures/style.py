"""How figures look: size, type, colours, and what they call a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pipeline.params.labels import model_name, regularizer_of, rule_name, same_regularizer
from pipeline.params.schema import Params

WIDTH = 7.1
"""Inches: the text width of most journals' pages."""


STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.facecolor": "white",  # a transparent page would be unreadable in dark mode
    "figure.labelsize": 8,
    "figure.titlesize": 9,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,  # of labels, ticks and legends, too
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.title_fontsize": 9,
    "legend.handlelength": 2.8,  # long enough to tell dashes from dots
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "svg.fonttype": "path",
    "svg.hashsalt": "gait",  # names of clip paths would be random otherwise
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
}


class StyledFigure(Figure):
    """A figure that is saved in the style it was made in, by whomever it is saved."""

    def savefig(self, fname: Any, *args: Any, **options: Any) -> None:
        """As ``Figure.savefig``; an SVG carries no date."""
        if str(options.get("format", fname)).endswith("svg"):
            options["metadata"] = {"Date": None, **(options.get("metadata") or {})}
        with style():
            super().savefig(fname, *args, **options)


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults and ``STYLE`` within the block; the user's settings after it."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def model_label(params: Params, model: str) -> str:
    """A model's name for readers, and after a comma its λ.

    Of a rule with several settings, λ tells them apart, unless it is the same. A name that says
    what the weights are has no need of more.
    """
    weight = regularizer_of(params, model, "λ = ")
    alone = same_regularizer(params, model) == [model]
    name = rule_name(params.rule_of(model)) if alone else model_name(params, model)
    constraint = params.settings_of(model).constraint
    said = constraint != "none" and constraint in name
    return name if said else f"{name}, {weight}"


def layer_shades(layers: int) -> list[str]:
    """From dark (input) to light (output), in grey too; not to yellow, invisible on white."""
    viridis = matplotlib.colormaps["viridis"]
    return [to_hex(viridis(shade)) for shade in numpy.linspace(0, 0.75, layers)]
