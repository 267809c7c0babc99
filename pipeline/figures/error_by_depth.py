"""Relative error against depth: the stable form beside the published evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from pipeline.figures.panels import add_guide, make_panels
from pipeline.figures.style import LOOKS, style

FORMS = {"stable": ("stable form", LOOKS["gait"].colour, "o")}
FORMS["literal"] = ("as published", LOOKS["bp"].colour, "^")
PRECISIONS = {"float64": "solid", "float32": (0, (4, 1.5))}

LOWEST, HIGHEST = 1e-16, 1e4
OVERFLOW = 1e30
"""Where a difference that overflowed is put: far above the frame."""


def error_against_depth(document: Mapping[str, Any]) -> Figure:
    """GAIT-prop's difference to BP (log axis) against the hidden layers (log axis).

    Colour and marker tell the form, dashes and filling the precision. Diamonds are the paper's
    square network. What lies above the frame is larger still.

    Args:
        document: as ``gait verify --json`` writes it.
    """
    rows = [row for row in document["comparisons"] if row["rule"] == "gait"]
    rows = [row for row in rows if row["activation"] == "leaky_relu" and row["shape"] == "square"]
    width = min(row["width"] for row in rows)
    with style():
        figure, panels = make_panels(1, 1, 2.9)
        panel = panels[0, 0]
        for form in FORMS:
            for precision in PRECISIONS:
                chosen = [row for row in rows if row["precision"] == precision]
                deep = [row for row in chosen if row["width"] == width]
                _draw(panel, deep, form, precision)
                wide = [row for row in chosen if row["width"] != width]
                _draw(panel, wide, form, precision, marks_only=True)
        depths = sorted({row["hidden_layers"] for row in rows})
        _axes(panel, depths[0], depths[-1])
        figure.legend(
            *panel.get_legend_handles_labels(), loc="outside upper center", ncols=len(FORMS)
        )
        settings = document["settings"]
        figure.supxlabel(
            f"GAIT-prop with γ = {settings['gamma']:g}, leaky ReLU, orthogonal weights, width"
            f" {width}. The largest difference over the layers and {len(settings['seeds'])} seeds."
            "\nDiamonds: the paper's network, 784 wide. Grey line: as large as the gradient"
            " itself.",
            fontsize=8,
        )
        return figure


def _draw(
    panel: Axes, rows: list[dict[str, Any]], form: str, precision: str, marks_only: bool = False
) -> None:
    label, colour, marker = FORMS[form]
    panel.plot(
        [row["hidden_layers"] for row in rows],
        [OVERFLOW if row[form] is None else row[form] for row in rows],
        color=colour,
        linestyle="none" if marks_only else PRECISIONS[precision],
        marker="D" if marks_only else marker,
        markersize=6 if marks_only else 4,
        markerfacecolor=colour if precision == "float64" else "white",
        label="_" if marks_only else f"{label}, {precision}",
        zorder=3,
    )


def _axes(panel: Axes, first: int, last: int) -> None:
    panel.set(
        xscale="log",
        yscale="log",
        xlim=(first / 1.12, last * 1.12),
        ylim=(LOWEST, HIGHEST),
        xlabel="hidden layers",
        ylabel="difference to BP, relative",
    )
    panel.xaxis.set_major_locator(FixedLocator([2**n for n in range(10)]))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(numticks=7))
    panel.yaxis.set_minor_locator(NullLocator())
    add_guide(panel, 1.0)
