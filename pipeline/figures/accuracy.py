"""Test accuracy of every model and seed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.data.image_sets import image_set
from pipeline.figures.curves import Array
from pipeline.figures.panels import case_title, make_panels
from pipeline.figures.style import model_label, style
from pipeline.params.looks import look_of
from pipeline.params.schema import REFERENCE, Params

NEAR_REFERENCE = 5.0
"""Percentage points: models that close to BP share the enlarged axis of ``final_accuracy``."""


@style()
def final_accuracy(params: Params, seeds: pandas.DataFrame) -> Figure:
    """Test accuracy (percent) of every seed, and its mean ± standard deviation, a line a model.

    On the left the whole axis; on the right the models within ``NEAR_REFERENCE`` percentage points
    of BP, enlarged. A row of panels for each data set and architecture.
    """
    cases = list(seeds.groupby(["dataset", "architecture"], sort=False))
    height = 0.5 + 0.18 * len(params.models())
    figure, panels = make_panels(len(cases), 2, height, width_ratios=(1, 1.25))
    far: list[Array] = []
    for (whole, near), (names, group) in zip(panels, cases, strict=True):
        accuracies = {
            model: numpy.asarray(100 * group[group.model == model].test_accuracy, float)
            for model in params.models()
        }
        least = accuracies[REFERENCE].mean() - NEAR_REFERENCE
        far += [values for values in accuracies.values() if values.mean() < least]
        _draw_accuracies(whole, params, accuracies, 0)
        _draw_accuracies(near, params, accuracies, least)
        _whole_axis(whole, params, 100 / image_set(names[0]).classes)
        _near_axis(near, accuracies, least)
        whole.set_title(case_title(*names), loc="left")
        near.set_title("enlarged: models near BP", loc="left")
    epoch = "the last epoch" if params.training.patience is None else "each seed's best epoch"
    for panel in panels[-1]:
        panel.set_xlabel("test accuracy (%)")
    count = seeds.seed.nunique()
    note = f"Dots: seeds, n = {count}; diamond, bar and numbers: mean ± 1 standard deviation."
    off = " ◂: off the enlarged axis." if far else ""
    figure.supxlabel(
        f"After {epoch}. {note if count > 1 else 'One seed.'}{off}",
        color="0.3",
    )
    return figure


def _draw_accuracies(
    panel: Axes, params: Params, accuracies: Mapping[str, Array], least: float
) -> None:
    """The models whose mean is that large at least; no bar is longer than accuracies can be."""
    for row, (model, values) in enumerate(accuracies.items()):
        if values.mean() < least:
            continue
        look = look_of(params, model)
        # Seeds of equal accuracy would hide each other on one height.
        heights = row + numpy.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else [row]
        panel.plot(
            values,
            heights,
            "o",
            color=look.colour,
            alpha=0.7,
            markersize=3.4,
            markeredgewidth=0,
            zorder=4,
        )
        mean, spread = values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0
        panel.errorbar(
            mean,
            row,
            xerr=[[min(spread, mean)], [min(spread, 100 - mean)]],
            color=look.colour,
            marker="D",
            markeredgecolor="black",
            markeredgewidth=0.5,
            markersize=5.5,
            capsize=3,
            zorder=3,
        )
    panel.set_ylim(len(accuracies) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)


def _whole_axis(panel: Axes, params: Params, chance: float) -> None:
    labels = [model_label(params, model) for model in params.models()]
    panel.set_yticks(range(len(labels)), labels)
    panel.tick_params(axis="y", length=0)
    panel.axvline(chance, color="0.5", linewidth=0.8, zorder=1)
    panel.annotate("chance", (chance, 0), xytext=(2, 0), textcoords="offset points", color="0.3")
    panel.set_xlim(0, 102)


def _near_axis(panel: Axes, accuracies: Mapping[str, Array], least: float) -> None:
    """The models near the reference fill the axis; an arrow is at the means of the others."""
    near = numpy.concatenate([v for v in accuracies.values() if v.mean() >= least])
    margin = max(0.1 * (near.max() - near.min()), 0.1)
    panel.set_xlim(near.min() - margin, near.max() + margin)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.set_yticks([])
    write = partial(panel.text, transform=panel.get_yaxis_transform())
    panel.annotate("mean (%)", (1.03, 1), (0, 6), "axes fraction", "offset points")
    for row, values in enumerate(accuracies.values()):
        spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
        off = "◂ " if values.mean() < least else ""
        write(1.03, row, f"{off}{values.mean():.2f}{spread}", va="center")
