"""Trainings: error over the epochs, and in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair
import numpy
import pandas

from pipeline.figures import model_label
from pipeline.figures.curves import LEAST_ERROR, QUANTITIES, error_rates, thinned
from pipeline.params.schema import Params
from pipeline.report.charts.chart_look import (
    MOST_EPOCHS,
    Chart,
    Histories,
    finished,
    log_scale,
    log_ticks,
    model_scales,
    names_down,
    over_epochs,
    table,
    tooltip,
)


def learning(
    params: Params, case: str, histories: Histories, results: Mapping[str, str]
) -> list[Chart]:
    """Validation and training error (percent, log axis) over the epochs: every seed and the mean.

    ``results`` has a checksum by model, by which its MLflow run is found.
    """
    return [
        _learning(params, f"{case}-{quantity}", quantity, histories, results)
        for quantity in QUANTITIES
    ]


def _learning(
    params: Params, name: str, quantity: str, histories: Histories, results: Mapping[str, str]
) -> Chart:
    rates = {
        model: thinned(error_rates(h, quantity), MOST_EPOCHS) for model, h in histories.items()
    }
    errors = numpy.concatenate([rate.to_numpy().ravel() for rate in rates.values()])
    low = max(0.7 * float(errors[errors > 0].min(initial=100.0)), LEAST_ERROR)
    rows: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
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
        scale=log_scale(low, 100),
        axis=altair.Axis(values=log_ticks(low, 100), format="~g"),
    )
    across = over_epochs(max(each["epoch"] for each in means))
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
    """Test accuracy of every model and seed, on the logarithm of the error."""
    errors = 100 * (1 - seeds.test_accuracy.to_numpy())
    low = max(0.8 * float(errors[errors > 0].min(initial=100.0)), LEAST_ERROR)
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
                scale=log_scale(low, high, reverse=True),
                axis=altair.Axis(
                    values=log_ticks(low, high), labelExpr="format(100 - datum.value, '.4~g')"
                ),
            ),
            y=names_down("label", grid=True),
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
        max(46, 16 * max(row["label"].count("|") + 1 for row in rows)) * len(params.models()),
        dots,
    )
