"""Trainings: error over the epochs, final errors, layers' alignment and orthogonality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair
import numpy
import pandas

from pipeline.config import Params
from pipeline.figures import model_label
from pipeline.figures.curves import (
    QUANTITIES,
    Curve,
    arithmetic_mean,
    error_rates,
    geometric_mean,
    layer_curves,
)
from pipeline.report.charts.look import (
    Chart,
    finished,
    layer_colours,
    log_ticks,
    model_scales,
    table,
    tooltip,
)

MOST_EPOCHS = 61
"""Of more, so many are shown, evenly spaced."""

EPOCHS = altair.Axis(grid=False, tickMinStep=1, tickCount=6, format="d")

Histories = Mapping[str, pandas.DataFrame]


def learning(
    params: Params, case: str, histories: Histories, results: Mapping[str, str]
) -> list[Chart]:
    """Validation and training error (percent, log axis) over the epochs: every seed and the mean.

    Args:
        params: names the models.
        case: data set and architecture, for the charts' names.
        histories: by model.
        results: checksum by model, by which its MLflow run is found.
    """
    return [
        _learning(params, f"{case}-{quantity}", quantity, histories, results)
        for quantity in QUANTITIES
    ]


def _learning(
    params: Params, name: str, quantity: str, histories: Histories, results: Mapping[str, str]
) -> Chart:
    rates = {model: _thinned(error_rates(h, quantity)) for model, h in histories.items()}
    positive = [float(r.where(r > 0).min().min()) for r in rates.values()]
    low = max(0.7 * float(numpy.nanmin(positive)), 0.01)
    rows, means = [], []
    for model, rate in rates.items():
        label = model_label(params, model)
        for epoch, values in rate.iterrows():
            means.append({"model": label, "epoch": epoch, "drawn": max(values.mean(), low)})
            rows += [
                {
                    "model": label,
                    "epoch": epoch,
                    "seed": seed,
                    "error": value,
                    "drawn": max(value, low),
                    "result": results[model][:12],
                }
                for seed, value in values.items()
            ]
    scales = model_scales(params)
    down = altair.Y(
        "drawn:Q",
        title=f"{quantity} error (%)",
        scale=altair.Scale(type="log", domain=[low, 100], nice=False),
        axis=altair.Axis(values=log_ticks(low, 100), format="~g"),
    )
    across = altair.X("epoch:Q", scale=altair.Scale(nice=False), axis=EPOCHS)
    of_seeds = altair.Chart(table(rows)).encode(x=across, y=down, color=scales["color"])
    thin = of_seeds.mark_line(strokeWidth=0.8, opacity=0.35).encode(detail="seed:N")
    targets = of_seeds.mark_point(filled=True, size=60, opacity=0).encode(
        tooltip=tooltip(
            model="model",
            seed="seed",
            epoch="epoch",
            error=f"{quantity} error (%)",
            result="result",
        )
    )
    mean = altair.Chart(table(means)).mark_line(strokeWidth=2.2).encode(x=across, y=down, **scales)
    last = ", ".join(
        f"{model_label(params, model)}: {rate.iloc[-1].mean():.2f} %"
        for model, rate in rates.items()
    )
    return finished(
        f"learning-{name}",
        f"{quantity.capitalize()} error",
        f"{quantity.capitalize()} error over the epochs, a line a model. At the end, {last}.",
        300,
        thin,
        mean,
        targets,
    )


def final_errors(params: Params, case: str, seeds: pandas.DataFrame) -> Chart:
    """Test accuracy of every model and seed, on the logarithm of the error.

    Args:
        params: names the models, top to bottom.
        case: for the chart's name.
        seeds: of one data set and architecture.
    """
    errors = 100 * (1 - seeds.test_accuracy)
    low = 0.8 * max(float(errors[errors > 0].min()), 0.01) if (errors > 0).any() else 0.01
    high = max(1.1 * float(errors.max()), 2 * low)
    rows = [
        {
            "model": model_label(params, row["model"]),
            "label": model_label(params, row["model"]).replace(", ", "|"),
            "seed": row["seed"],
            "accuracy": 100 * row["test_accuracy"],
            "drawn": max(100 * (1 - row["test_accuracy"]), low),
            "result": row["result"][:12],
        }
        for row in seeds.to_dict("records")
    ]
    dots = (
        altair.Chart(table(rows))
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x=altair.X(
                "drawn:Q",
                title="test accuracy (%), log scale of the error",
                scale=altair.Scale(type="log", domain=[low, high], nice=False, reverse=True),
                axis=altair.Axis(
                    values=log_ticks(low, high), labelExpr="format(100 - datum.value, '.4~g')"
                ),
            ),
            y=altair.Y(
                "label:N",
                title=None,
                sort=None,
                axis=altair.Axis(labelExpr="split(datum.label, '|')", ticks=False, grid=True),
            ),
            yOffset=altair.YOffset("seed:N", scale=altair.Scale(paddingOuter=1)),
            color=model_scales(params)["color"],
            tooltip=tooltip(
                model="model", seed="seed", accuracy="test accuracy (%)", result="result"
            ),
        )
    )
    return finished(
        f"final-{case}",
        "Test accuracy of every seed",
        "Test accuracy of every model and seed; the table has means and spreads.",
        46 * len(params.models()),
        dots,
    )


def alignment(params: Params, case: str, histories: Histories) -> list[Chart]:
    """Cosine to BP's gradient, and ratio of norms (log axis): a pair a model not trained by BP."""
    charts = []
    for model, history in histories.items():
        if params.rule_of(model) == "bp":
            continue
        label = model_label(params, model)
        cosines = layer_curves(history, "bp_cosine", arithmetic_mean, MOST_EPOCHS)
        norms = layer_curves(history, "bp_relative_norm", geometric_mean, MOST_EPOCHS)
        charts += [
            _layers(
                f"cosine-{case}-{model}",
                f"{label}: cosine",
                cosines,
                altair.Scale(domain=[-1, 1]),
                [-1, -0.5, 0, 0.5, 1],
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
    scale = altair.Scale(type="log", domain=[low, high], nice=False)
    return _layers(name, title, curves, scale, log_ticks(low, high))


def _layers(
    name: str, title: str, curves: list[Curve], scale: altair.Scale, ticks: list[float]
) -> Chart:
    """A line a layer over the epochs."""
    rows: list[dict[str, Any]] = [
        {"layer": layer, "epoch": int(epoch), "value": mean, "low": low, "high": high}
        for layer, curve in enumerate(curves, start=1)
        for epoch, mean, low, high in zip(
            curve.epochs, curve.mean, curve.low, curve.high, strict=True
        )
    ]
    names = [str(layer) for layer in range(1, len(curves) + 1)]  # as CSV has them
    base = altair.Chart(table(rows)).encode(
        x=altair.X("epoch:Q", axis=EPOCHS),
        y=altair.Y("value:Q", title=None, scale=scale, axis=altair.Axis(format="~g", values=ticks)),
        color=altair.Color(
            "layer:N",
            scale=altair.Scale(domain=names, range=layer_colours(len(names))),
            legend=None,
        ),
    )
    line = base.mark_line(strokeWidth=2, clip=True)
    targets = base.mark_point(filled=True, size=60, opacity=0, clip=True).encode(
        tooltip=tooltip(layer="layer", epoch="epoch", value="mean", low="− 1 sd", high="+ 1 sd")
    )
    last = ", ".join(f"layer {n}: {c.mean[-1]:.3g}" for n, c in enumerate(curves, start=1))
    return finished(
        name,
        title,
        f"{title}, over the epochs, a line a layer. At the end, {last}.",
        200,
        line,
        targets,
    )


def _thinned(values: pandas.DataFrame) -> pandas.DataFrame:
    if len(values) <= MOST_EPOCHS:
        return values
    places = numpy.linspace(0, len(values) - 1, MOST_EPOCHS).round().astype(int)
    return values.iloc[places]
