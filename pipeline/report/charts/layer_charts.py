"""Layer by layer over the epochs: agreement with BP, distance from orthogonality."""

from __future__ import annotations

from typing import Any

import altair
import numpy

from pipeline.figures import model_label
from pipeline.figures.curves import Curve, arithmetic_mean, geometric_mean, layer_curves
from pipeline.params.schema import Params
from pipeline.report.charts.chart_look import (
    MOST_EPOCHS,
    Chart,
    Histories,
    finished,
    layer_colours,
    log_scale,
    log_ticks,
    named,
    over_epochs,
    table,
    tooltip,
)


def alignment(params: Params, case: str, histories: Histories) -> list[Chart]:
    """Cosine to BP's gradient, and ratio of norms (log axis): a pair a model not trained by BP."""
    charts = []
    for model, history in histories.items():
        if params.rule_of(model) == "bp":
            continue
        label = model_label(params, model)
        cosines = layer_curves(history, "bp_cosine", arithmetic_mean, MOST_EPOCHS)
        lowest = max(-1.0, min(0.9, *(float(curve.low.min()) for curve in cosines)))
        norms = layer_curves(history, "bp_relative_norm", geometric_mean, MOST_EPOCHS)
        charts += [
            _layers(
                f"cosine-{case}-{model}",
                f"{label}: cosine",
                cosines,
                # As much of it as the lines take, and 0.9 to 1 at least.
                altair.Scale(domain=[lowest, 1 + 0.02 * (1 - lowest)], nice=False),
                [mark for mark in (-1, -0.5, 0, 0.5, 0.8, 0.9, 0.95, 1) if mark >= lowest],
            ),
            _log_layers(
                f"norm-{case}-{model}",
                f"{label}: relative length",
                norms,
                min(0.5, *(float(curve.mean.min()) for curve in norms)),
                max(2.0, *(float(curve.mean.max()) for curve in norms)),
            ),
        ]
    return charts


def orthogonality(params: Params, case: str, histories: Histories) -> list[Chart]:
    """Orthogonality defect ‖WᵀW − I‖_F / √n (log axis) of every layer, a chart a model."""
    shown = {
        model: layer_curves(history, "orthogonality_defect", geometric_mean, MOST_EPOCHS)
        for model, history in histories.items()
    }
    # An untrained network's defect may be rounding alone, decades below all that follows.
    trained = numpy.concatenate([curve.mean[1:] for each in shown.values() for curve in each])
    low = float(trained[trained > 0].min(initial=1.0)) / 1.5
    high = 1.5 * max(float(curve.mean.max()) for each in shown.values() for curve in each)
    return [
        _log_layers(f"orthogonality-{case}-{model}", model_label(params, model), curves, low, high)
        for model, curves in shown.items()
    ]


def _log_layers(name: str, title: str, curves: list[Curve], low: float, high: float) -> Chart:
    return _layers(name, title, curves, log_scale(low, high), log_ticks(low, high))


def _layers(
    name: str, title: str, curves: list[Curve], scale: altair.Scale, ticks: list[float]
) -> Chart:
    """A line a layer over the epochs."""
    rows: list[dict[str, Any]] = [
        {"layer": layer, "epoch": int(epoch), "value": mean, "low": low, "high": high}
        for layer, curve in enumerate(curves, start=1)
        for epoch, mean, low, high in zip(*curve, strict=True)
    ]
    names = [str(layer) for layer in range(1, len(curves) + 1)]  # as CSV has them
    base = altair.Chart(table(rows)).encode(
        x=over_epochs(rows[-1]["epoch"]),
        y=altair.Y("value:Q", title=None, scale=scale, axis=altair.Axis(format="~g", values=ticks)),
        color=named(altair.Color, "layer", names, layer_colours(len(names))),
    )
    line = base.mark_line(strokeWidth=2, clip=True)
    targets = base.mark_point(filled=True, size=60, opacity=0, clip=True).encode(
        tooltip=tooltip(layer="layer", epoch="epoch", value="mean", low="− 1 sd", high="+ 1 sd")
    )
    last = ", ".join(f"layer {n}: {c.mean[-1]:.3g}" for n, c in enumerate(curves, start=1))
    description = f"{title}, over the epochs, a line a layer. At the end, {last}."
    return finished(name, title, description, 200, line, targets)
