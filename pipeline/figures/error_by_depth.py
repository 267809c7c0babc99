"""Relative error against depth: the stable form beside the published evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from pipeline.figures.panels import add_guide, make_panels
from pipeline.figures.style import style
from pipeline.params.looks import LOOKS

PRECISIONS = {"float64": "solid", "float32": (0, (4, 1.5))}

LOWEST, HIGHEST = 1e-16, 1e4
OVERFLOW = 1e30
"""Where a difference that overflowed is put: far above the frame."""

Row = Mapping[str, Any]


@style()
def error_against_depth(document: Mapping[str, Any]) -> Figure:
    """GAIT-prop's difference to BP against the hidden layers (log axes), of `gait verify --json`.

    Left beside the published evaluation, right beside the follow-up's, whose steps have one length
    in every layer. Colour and marker tell the form, dashes and filling the precision. Diamonds are
    the paper's square network. What lies above the frame is larger still.
    """
    rows = [row for row in document["comparisons"] if row["rule"] == "gait"]
    rows = [row for row in rows if row["activation"] == "leaky_relu" and row["shape"] == "square"]
    width = min(row["width"] for row in rows)
    deep = [row for row in rows if row["width"] == width]
    wide = [row for row in rows if row["width"] != width]
    rescaled = document["rescalings"]
    stable, published = (LOOKS["gait"].colour, "o"), (LOOKS["bp"].colour, "^")
    looks = ((LOOKS["itp"].colour, "s"), (LOOKS["tp"].colour, "v"))
    figure, panels = make_panels(1, 2, 2.9, sharey=True)
    left, right = panels[0]
    _draw(left, deep, "stable", "stable form", stable)
    _draw(left, deep, "literal", "as published", published)
    for form, look in (("stable", stable), ("literal", published)):
        _draw(left, wide, form, "_", (look[0], "D"))
    lengths = sorted({row["length"] for row in rescaled})
    for length, look in zip(lengths, looks, strict=True):
        chosen = [row for row in rescaled if row["length"] == length]
        # The shortest steps have both precisions.
        if length == lengths[0]:
            _draw(right, chosen, "stable", "_", stable)
        name = f"$10^{{{math.log10(length):.0f}}}$"
        _draw(right, chosen, "rescaled", f"steps of {name}", look)
    depths = sorted({row["hidden_layers"] for row in rows})
    for panel in (left, right):
        _axes(panel, depths[0], depths[-1])
    settings = document["settings"]
    left.set(title=f"γ = {settings['gamma']:g}", ylabel="difference to BP, relative")
    right.set_title("steps of equal length, as in the follow-up")
    shown = [line for panel in (left, right) for line in panel.lines]
    handles = [line for line in shown if not str(line.get_label()).startswith("_")]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, columnspacing=1.2)
    figure.supxlabel(
        f"GAIT-prop, leaky ReLU, orthogonal weights, width {width}. The largest difference over"
        f" the layers and {len(settings['seeds'])} seeds."
        "\nDiamonds: the paper's network, 784 wide. Grey line: as large as the gradient"
        " itself.",
        fontsize=8,
    )
    return figure


def _draw(panel: Axes, rows: Sequence[Row], form: str, label: str, look: tuple[str, str]) -> None:
    """A line a precision; without a label, of marks alone where they are diamonds."""
    colour, marker = look
    for precision, dashes in PRECISIONS.items():
        chosen = [row for row in rows if row["precision"] == precision]
        if chosen:
            panel.plot(
                [row["hidden_layers"] for row in chosen],
                [OVERFLOW if row[form] is None else row[form] for row in chosen],
                color=colour,
                linestyle="none" if marker == "D" else dashes,
                marker=marker,
                markersize=6 if marker == "D" else 4,
                markerfacecolor=colour if precision == "float64" else "white",
                label="_" if label == "_" else f"{label}, {precision}",
                zorder=3,
            )


def _axes(panel: Axes, first: int, last: int) -> None:
    panel.set(
        xscale="log",
        yscale="log",
        xlim=(first / 1.12, last * 1.12),
        ylim=(LOWEST, HIGHEST),
        xlabel="hidden layers",
    )
    panel.xaxis.set_major_locator(FixedLocator([2**n for n in range(10)]))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(numticks=7))
    panel.yaxis.set_minor_locator(NullLocator())
    add_guide(panel, 1.0)
