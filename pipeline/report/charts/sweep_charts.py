"""A sweep's accuracies over two of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair
import pandas

from pipeline.figures.curves import LEAST_ERROR
from pipeline.figures.swept_axes import SweptAxis, choose_axes, error_percent
from pipeline.params.labels import model_name, setting_name, value_text
from pipeline.params.schema import Params
from pipeline.report.charts.chart_look import Chart, finished, table, tooltip
from pipeline.report.evidence import Sweep
from pipeline.results.trial_ranking import METRIC, hashable, ranked, swept_settings
from pipeline.training.epochs import FAILED, FINISHED, STOPPED

MOST_CATEGORIES = 18
"""With more values than this a setting was drawn, not listed: every trial is then a dot."""


def heat_maps(params: Params, sweep: Sweep) -> list[Chart]:
    """Mean validation accuracy over the two settings with the most to say, a chart a rule.

    A cell is the best trial there, over whatever else was swept; colour is the error's logarithm,
    on one scale for all rules. A stopped trial's number has a star, its dot is small.
    """
    trials = sweep.trials
    across, up, _ = swept_axes(trials)
    errors = error_percent(trials[METRIC].dropna())
    limits = [float(errors.min()), float(errors.max())] if len(errors) else [1.0, 100.0]
    return [
        _heat_map(params, sweep, str(rule), (across, up), limits) for rule in trials.rule.unique()
    ]


def swept_axes(trials: pandas.DataFrame) -> tuple[SweptAxis, SweptAxis, list[str]]:
    """Of the heat maps: as ``choose_axes`` has them."""
    return choose_axes(trials, _space(trials))


def _space(trials: pandas.DataFrame) -> dict[str, Any]:
    """The values of every setting; None of one that has too many to be a list."""
    values = {name: list(trials[name].unique()) for name in swept_settings(trials)}
    return {name: v if len(v) <= MOST_CATEGORIES else None for name, v in values.items()}


def _heat_map(
    params: Params, sweep: Sweep, rule: str, axes: tuple[SweptAxis, SweptAxis], limits: list[float]
) -> Chart:
    across, up = axes
    label = model_name(params, rule)
    rows = _rows(sweep.trials[sweep.trials.rule == rule], sweep.runs, across, up)
    cells = across.categories is not None and up.categories is not None
    base = altair.Chart(table(rows)).encode(
        x=_position("x", across),
        y=_position("y", up),
        tooltip=tooltip(
            x=setting_name(across.name),
            y=setting_name(up.name),
            accuracy="validation accuracy (%)",
            spread="± 1 sd",
            trial="trial",
            run="MLflow run",
            failure="failed",
        ),
    )
    # On this scale what has no error is white, on a dark page too.
    failed = altair.when("datum.shown === 'failed'")
    colour = failed.then(altair.value("var(--raised)" if cells else "var(--quiet)")).otherwise(
        "error:Q",
        scale=altair.Scale(type="log", domain=limits, scheme="viridis", reverse=True),
        legend=None,
    )
    layers: list[Any]
    if cells:
        numbers = base.mark_text(fontSize=11).encode(
            text=altair.Text("shown:N"),
            color=failed.then(altair.value("var(--quiet)"))
            .when(
                f"log(datum.error / {limits[0]:.4g}) <"
                f" 0.55 * log({limits[1]:.4g} / {limits[0]:.4g})"
            )
            .then(altair.value("#000000"))
            .otherwise(altair.value("#ffffff")),
        )
        layers = [base.mark_rect().encode(color=colour), numbers]
    else:
        small = altair.when("datum.stopped == 1").then(altair.value(30))
        dots = base.mark_point(filled=True, opacity=0.9)
        layers = [dots.encode(color=colour, size=small.otherwise(altair.value(90)))]
    title, where = f"{label}: none finished", ""
    if best := next((row for row in rows if row["best"]), None):
        accuracy = f"{best['accuracy']:.2f} %"
        title = f"{label}: best {accuracy}"
        where = f" Best: {accuracy} at {setting_name(across.name)} {best['x']}"
        where += f", {setting_name(up.name)} {best['y']}" if up.name else ""
    return finished(
        f"sweep-{sweep.folder.name}-{rule}",
        title,
        f"{label}: validation accuracy over the swept settings.{where}.",
        32 * up.length if cells else 240,
        *layers,
    )


def _rows(
    trials: pandas.DataFrame, runs: Mapping[str, str], across: SweptAxis, up: SweptAxis
) -> list[dict[str, Any]]:
    """A row a cell or dot: its best trial, best of all first."""
    rows: dict[tuple[Any, Any], dict[str, Any]] = {}
    for trial in ranked(trials).to_dict("records"):
        x, y = (hashable(trial[axis.name]) if axis.name else "" for axis in (across, up))
        failed, stopped = (trial["status"] == each for each in (FAILED, STOPPED))
        accuracy = 100 * trial[METRIC]
        rows.setdefault(
            (x, y),
            {
                "x": value_text(x) if across.categories is not None else x,
                "y": value_text(y) if up.categories is not None else y,
                "accuracy": accuracy,
                "error": max(100 - accuracy, LEAST_ERROR) if not failed else float("nan"),
                "shown": "failed" if failed else f"{accuracy:.1f}{'*' if stopped else ''}",
                "spread": 100 * trial["validation_accuracy_std"],
                "trial": trial["trial"],
                "run": runs.get(trial["trial"], ""),
                "failure": trial["failure"] if failed else "",
                "stopped": int(stopped),
                "best": not rows and trial["status"] == FINISHED,
            },
        )
    return list(rows.values())


def _position(field: str, axis: SweptAxis) -> Any:
    """Categories in their order, or a range of numbers."""
    channel: Any = altair.X if field == "x" else altair.Y
    if axis.categories is not None:
        order = [value_text(value) for value in axis.categories]
        if field == "y":
            order.reverse()
        return channel(
            f"{field}:O",
            title=setting_name(axis.name) or None,
            sort=order,
            axis=altair.Axis(labelAngle=0, grid=False, ticks=False, domain=False),
        )
    return channel(f"{field}:Q", title=setting_name(axis.name), scale=altair.Scale(zero=False))
