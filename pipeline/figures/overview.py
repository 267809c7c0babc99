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
    layer_curves,
    layer_vertices,
    raised,
)
from pipeline.figures.panels import (
    add_guide,
    add_layer_bar,
    add_note,
    cosine_axis,
    draw_curve,
    draw_layers,
    epoch_axes,
    error_axis,
    log_axis,
    make_panels,
    norm_axis,
)
from pipeline.figures.style import style
from pipeline.params.looks import LOOKS


def model_curves(history: pandas.DataFrame, title: str) -> Figure:
    """One run at a glance: error, loss, and each layer's agreement with BP.

    Args:
        history: of one model.
        title: above all panels.
    """
    with style():
        layers = count_layers(history)
        figure, panels = make_panels(2, 2, 1.9, sharex=True)
        limit = epoch_limit(2 * layers * layer_vertices(layers))
        (error, loss), (cosine, norm) = panels
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
        draw_layers(cosine, layer_curves(history, "bp_cosine", arithmetic_mean, limit))
        norm.set_yscale("log")
        draw_layers(norm, layer_curves(history, "bp_relative_norm", geometric_mean, limit))
        cosine_axis(cosine)
        norm_axis(norm)
        add_guide(cosine, 0.0)
        add_guide(norm, 1.0)
        epoch_axes(panels)
        add_layer_bar(figure, [cosine, norm], layers)
        add_note(
            figure,
            [history],
            mean="mean (geometric for loss and norms)",
            bands=layers <= MOST_BANDS,
        )
        return figure
