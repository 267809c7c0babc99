"""Error against epochs: of all models, and of one, whose run is shown at a glance."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.data.image_sets import image_set
from pipeline.figures.curves import (
    MOST_BANDS,
    QUANTITIES,
    arithmetic_mean,
    by_seed,
    count_layers,
    epoch_limit,
    error_floor,
    error_rates,
    geometric_mean,
    raised,
)
from pipeline.figures.layer_panels import draw_alignment
from pipeline.figures.panels import (
    add_guide,
    add_layer_bar,
    add_note,
    case_title,
    draw_curve,
    epoch_axes,
    log_axis,
    make_panels,
)
from pipeline.figures.style import model_label, style
from pipeline.params.looks import LOOKS, look_of
from pipeline.params.schema import Params
from pipeline.project.paths import ModelKey

_LEGEND_COLUMNS, _LEGEND_ROW = 3, 0.17
"""How many models stand beside each other in the legend, and how high they are, in inches."""
_LONG_LABEL = 26
"""Of labels with more characters two stand beside each other."""


@style()
def learning_curves(params: Params, histories: Mapping[ModelKey, pandas.DataFrame]) -> Figure:
    """Validation and training error (percent, log axis) against epochs, a line a model.

    On a log axis of the error, rules that learn stand apart from one another, and rules that fail
    stay near chance. Columns: data sets; rows: architectures, validation above training. With a
    single data set, validation and training stand side by side.
    """
    labels = {model: model_label(params, model) for model in params.models()}
    columns = _LEGEND_COLUMNS - (max(map(len, labels.values())) > _LONG_LABEL)
    figure, panels = _learning_panels(histories, math.ceil(len(labels) / columns))
    limit = epoch_limit(2 * len(histories))
    curves = {
        (key, quantity): arithmetic_mean(error_rates(history, quantity), limit)
        for key, history in histories.items()
        for quantity in QUANTITIES
    }
    leaving = False
    for (dataset, architecture, quantity), panel in panels.items():
        # One floor for a data set's architectures, which are compared.
        of_dataset = {
            key: curve
            for (key, shown), curve in curves.items()
            if (key.dataset, shown) == (dataset, quantity)
        }
        floor = error_floor(of_dataset.values())
        _error_axis(panel, floor)
        add_guide(panel, 100 * (1 - 1 / image_set(dataset).classes))
        for key, curve in of_dataset.items():
            if key.architecture == architecture:
                look, label = look_of(params, key.model), labels[key.model]
                order = params.models().index(key.model)
                # What lies below the axis' floor, 0 too, leaves the frame downwards.
                draw_curve(panel, raised(curve, floor / 2), look, order, label)
                leaving |= bool((curve.mean < floor).any())
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=columns,
    )
    others = "Grey line: chance. " + ("Below the frame: fewer errors, or none." * leaving)
    add_note(figure, histories.values(), others=others)
    return figure


@style()
def model_curves(history: pandas.DataFrame, title: str) -> Figure:
    """One model's run at a glance: error, loss, and each layer's agreement with BP."""
    layers = count_layers(history)
    figure, panels = make_panels(2, 2, 1.9, sharex=True)
    bands = layers <= MOST_BANDS
    limit = epoch_limit(2 * layers, bands)
    error, loss = panels[0]
    errors = {name: arithmetic_mean(error_rates(history, name), limit) for name in QUANTITIES}
    floor = error_floor(errors.values())
    for order, (quantity, look) in enumerate(zip(QUANTITIES, LOOKS.values(), strict=False)):
        losses = geometric_mean(by_seed(history, f"{QUANTITIES[quantity]}_loss"), limit)
        draw_curve(error, raised(errors[quantity], floor / 2), look, order, quantity)
        draw_curve(loss, losses, look, order, quantity)
    _error_axis(error, floor)
    error.set_ylabel("error (%)")
    loss.set_ylabel("loss")
    loss.set_yscale("log")
    log_axis(loss, *loss.get_ylim())
    figure.legend(
        *error.get_legend_handles_labels(), title=title, loc="outside upper center", ncols=2
    )
    draw_alignment(panels[1:], [history], limit)
    epoch_axes(panels)
    add_layer_bar(figure, panels[1], layers)
    add_note(figure, [history], mean="mean (geometric for loss and norms)", bands=bands)
    return figure


def _learning_panels(
    keys: Collection[ModelKey], legend_rows: int
) -> tuple[Figure, dict[tuple[str, str, str], Axes]]:
    """Axes by data set, architecture and quantity, with room for a legend above them."""
    datasets = list(dict.fromkeys(key.dataset for key in keys))
    architectures = list(dict.fromkeys(key.architecture for key in keys))
    beside = len(datasets) == 1
    rows = len(architectures) * (1 if beside else 2)
    height = 2.2 if rows == 1 else 1.65
    height += max(0, legend_rows - 2) * _LEGEND_ROW / rows
    figure, grid = make_panels(rows, 2 if beside else len(datasets), height, sharex=True)
    panels = {}
    for row, architecture in enumerate(architectures):
        for column, dataset in enumerate(datasets):
            for place, quantity in enumerate(QUANTITIES):
                panel = grid[row, place] if beside else grid[2 * row + place, column]
                panels[dataset, architecture, quantity] = panel
                if beside or place == 0:
                    panel.set_title(case_title(dataset, architecture))
                if beside or column == 0:
                    panel.set_ylabel(f"{quantity} error (%)")
    epoch_axes(grid)
    return figure, panels


def _error_axis(panel: Axes, floor: float) -> None:
    """A log axis of percent from the floor."""
    log_axis(panel, floor, 130)
