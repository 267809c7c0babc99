"""Layer by layer over training: agreement with BP, distance from orthogonality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.figures.curves import (
    MOST_BANDS,
    Curve,
    arithmetic_mean,
    count_layers,
    epoch_limit,
    geometric_mean,
    layer_curves,
    layer_vertices,
)
from pipeline.figures.panels import (
    MOST_COLUMNS,
    add_guide,
    add_layer_bar,
    add_note,
    cosine_axis,
    draw_layers,
    epoch_axes,
    label_rows,
    log_axis,
    make_pairs,
    make_panels,
    norm_axis,
)
from pipeline.figures.style import model_label, style
from pipeline.params.schema import Params


def alignment(params: Params, histories: Mapping[str, pandas.DataFrame], title: str = "") -> Figure:
    """Cosine with BP's gradient, and ratio of the norms (log axis), of each layer over training.

    A column a model, models that BP trains left out; a line a layer. A single model has its two
    panels side by side.

    Args:
        params: names the models.
        histories: of one data set and architecture, by model; one at least is not trained by BP.
        title: above all panels.
    """
    with style():
        shown = {model: h for model, h in histories.items() if params.rule_of(model) != "bp"}
        layers = count_layers(next(iter(shown.values())))
        if len(shown) == 1:
            figure, panels = make_panels(1, 2, 2.0)
            pairs = panels
        else:
            figure, panels, pairs = make_pairs(len(shown))
        limit = epoch_limit(2 * len(shown) * layers * layer_vertices(layers))
        for (cosine, norm), (model, history) in zip(pairs, shown.items(), strict=True):
            cosine.set_title(model_label(params, model, break_line=len(shown) > MOST_COLUMNS))
            draw_layers(cosine, layer_curves(history, "bp_cosine", arithmetic_mean, limit))
            norm.set_yscale("log")
            draw_layers(norm, layer_curves(history, "bp_relative_norm", geometric_mean, limit))
        cosine_axis(pairs[0, 0])
        norm_axis(pairs[0, 1])
        label_rows(panels)
        for cosine, norm in pairs:
            add_guide(cosine, 0.0)
            add_guide(norm, 1.0)
        epoch_axes(panels)
        add_layer_bar(figure, figure.axes, layers)
        figure.suptitle(title)
        add_note(
            figure, shown.values(), mean="mean (geometric for norms)", bands=layers <= MOST_BANDS
        )
        return figure


def orthogonality(
    params: Params, histories: Mapping[str, pandas.DataFrame], title: str = ""
) -> Figure:
    """Orthogonality defect ‖WᵀW − I‖_F / √n and condition number (log axes) over training.

    A column a model, a line a layer.

    Args:
        params: names the models.
        histories: of one data set and architecture, by model.
        title: above all panels.
    """
    with style():
        layers = count_layers(next(iter(histories.values())))
        figure, panels, pairs = make_pairs(len(histories))
        limit = epoch_limit(2 * len(histories) * layers * layer_vertices(layers))
        drawn: list[Curve] = []
        for (defect, condition), (model, history) in zip(pairs, histories.items(), strict=True):
            curves = layer_curves(history, "orthogonality_defect", geometric_mean, limit)
            defect.set_yscale("log")
            draw_layers(defect, curves)
            defect.set_title(model_label(params, model, break_line=True))
            drawn += curves
            condition.set_yscale("log")
            draw_layers(condition, layer_curves(history, "condition_number", geometric_mean, limit))
        _defect_axis(panels[0, 0], drawn)
        panels[1, 0].set_ylabel("condition number")
        log_axis(panels[1, 0], 0.9, max(2.0, panels[1, 0].get_ylim()[1]))
        label_rows(panels)
        epoch_axes(panels)
        add_layer_bar(figure, figure.axes, layers)
        figure.suptitle(title)
        below = any(curve.mean[0] < panels[0, 0].get_ylim()[0] for curve in drawn)
        others = "Below the frame: untrained, orthogonal to rounding." if below else ""
        add_note(
            figure,
            histories.values(),
            mean="geometric mean",
            bands=layers <= MOST_BANDS,
            others=others,
        )
        return figure


def _defect_axis(panel: Axes, curves: Sequence[Curve]) -> None:
    """From the trained networks' smallest defect: an untrained one's may be rounding alone."""
    trained = numpy.concatenate([curve.low[1:] for curve in curves])
    highest = max(curve.high.max() for curve in curves)
    panel.set_ylabel("‖WᵀW − I‖ / √n")
    log_axis(panel, trained[trained > 0].min(initial=highest) / 1.5, highest * 1.5)
