"""How figures look: size, type, colours, and a model's own colour, dashes and marker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pipeline.params.labels import model_name, regularizer_of, rule_name
from pipeline.params.schema import REFERENCE, Params

WIDTH = 7.1
"""Inches: the text width of most journals' pages."""


STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelsize": 8,
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
    "font.size": 8,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.title_fontsize": 9,
    "legend.handlelength": 2.8,  # long enough to tell dashes from dots
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "gait",  # names of clip paths would be random otherwise
    "xtick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 8,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
}


@dataclass(frozen=True)
class Look:
    """How a model is drawn: colour, dashes and marker each tell it apart."""

    colour: str
    dashes: Any
    marker: str


# The paper's in Okabe and Ito's colours, which do not depend on the reader's kind of colour vision;
# for as many as all rules there are no such colours: dashes and markers tell these apart, too.
LOOKS = {
    REFERENCE: Look("#000000", "solid", "s"),
    "bp": Look("#0072B2", (0, (5, 1.5)), "^"),
    "gait": Look("#D55E00", "solid", "o"),
    "itp": Look("#009E73", (0, (5, 1.5, 1, 1.5)), "v"),
    "tp": Look("#CC79A7", (0, (1, 1.2)), "D"),
    "damped": Look("#A0522D", (0, (6, 2)), "p"),
    "gait_learned_inverse": Look("#7766DD", (0, (2, 1)), "h"),
    "gait_learned_from_transpose": Look("#AA4466", (0, (4, 1, 1, 1)), "<"),
    "difference_target_propagation": Look("#999933", (0, (3, 1, 1, 1, 1, 1)), ">"),
    "feedback_alignment": Look("#44AA99", (0, (7, 1)), "d"),
    "direct_feedback_alignment": Look("#117733", (0, (1, 2)), "8"),
    "sign_symmetry": Look("#BB9900", (0, (2, 2)), "H"),
    "kolen_pollack": Look("#6699CC", (0, (9, 1, 1, 1)), "X"),
}


_OTHER_LOOKS = (
    Look("#E69F00", (0, (3, 1)), "P"),
    Look("#56B4E9", (0, (8, 2)), "."),
    Look("#7F7F7F", (0, (5, 1, 1, 1, 1, 1)), "*"),
    Look("#332288", (0, (2, 3)), "<"),
    Look("#882255", (0, (7, 1, 2, 1)), "d"),
    Look("#CC6677", (0, (4, 2)), ">"),
    Look("#117733", (0, (3, 3)), "h"),
    Look("#661100", (0, (1, 3)), "X"),
)


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


def model_label(params: Params, model: str, break_line: bool = False) -> str:
    """A model's name for readers, with its λ, in one line or two.

    Of a rule with several settings, λ tells them apart, unless it is the same.
    """
    between = "\n" if break_line else ", "
    weight = regularizer_of(params, model, "λ = ")
    rule = params.rule_of(model)
    same = [
        other
        for other in params.run.rules
        if params.rule_of(other) == rule and regularizer_of(params, other, "λ = ") == weight
    ]
    name = rule_name(rule) if same == [model] else model_name(params, model)
    return f"{name}{between}{weight}"


def layer_shades(layers: int) -> list[str]:
    """From dark (input) to light (output), in grey too; not to yellow, invisible on white."""
    viridis = matplotlib.colormaps["viridis"]
    return [to_hex(viridis(shade)) for shade in numpy.linspace(0, 0.75, layers)]


def look_of(params: Params, model: str) -> Look:
    """A model's own look, the same in every figure."""
    return look_among(list(params.rules), model)


def look_among(names: Sequence[str], name: str) -> Look:
    """The look of one of some models or rules; those without one of their own take turns."""
    if name in LOOKS:
        return LOOKS[name]
    turn, place = divmod(
        [other for other in names if other not in LOOKS].index(name), len(_OTHER_LOOKS)
    )
    # Colours come again with other dashes and markers.
    shape = _OTHER_LOOKS[(place + turn) % len(_OTHER_LOOKS)]
    return Look(_OTHER_LOOKS[place].colour, shape.dashes, shape.marker)
