"""One run at a glance."""

from __future__ import annotations

import pandas
from matplotlib.figure import Figure

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
    add_layer_bar,
    add_note,
    draw_curve,
    epoch_axes,
    error_axis,
    log_axis,
    make_panels,
)
from pipeline.figures.style import style
from pipeline.params.looks import LOOKS


@style()
def model_curves(history: pandas.DataFrame, title: str) -> Figure:
    """One run at a glance: error, loss, and each layer's agreement with BP.

    Args:
        history: of one model.
        title: above all panels.
    """
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
    error_axis(error, floor)
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
