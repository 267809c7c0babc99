"""What the charts have in common: their look, their data, the models' colours and dashes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair
import pandas

from pipeline.figures import model_label
from pipeline.figures.style import layer_shades
from pipeline.params.looks import look_of
from pipeline.params.schema import Params

DIGITS = 4
"""Significant digits of the data: more than a tooltip shows."""

MOST_EPOCHS = 61
"""Of more, so many are shown, evenly spaced."""

Histories = Mapping[str, pandas.DataFrame]
"""Of one data set and architecture, by model."""

CONFIG: dict[str, Any] = {
    "aria": False,  # a chart is one image with one description; its numbers are in the tables
    "axis": {
        "domainColor": "var(--line)",
        "gridColor": "var(--grid)",
        "labelColor": "var(--text)",
        "labelFontSize": 12,
        "tickColor": "var(--line)",
        "titleColor": "var(--text)",
        "titlePadding": 8,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "background": "transparent",
    "customFormatTypes": False,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
}


@dataclass(frozen=True)
class Chart:
    """One chart of the page."""

    name: str  # of its element, unique in the page
    title: str  # above it; "" where the section's own says it all
    description: str  # what it shows, for those who cannot see it
    spec: Mapping[str, Any]  # for Vega-Lite


def finished(
    name: str, title: str, description: str, height: float, *layers: altair.Chart
) -> Chart:
    """Layers upon each other, at their place's width and in the page's look."""
    chart = altair.layer(*layers).properties(width="container", height=height)
    return Chart(name, title, description, _readable(chart.configure(**CONFIG).to_dict()))


def table(rows: Sequence[Mapping[str, Any]]) -> altair.InlineData:
    """Rows as CSV: a third of what they take as JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _rounded(value) for name, value in row.items()} for row in rows)
    return altair.InlineData(values=text.getvalue(), format=altair.CsvDataFormat(type="csv"))


def tooltip(**fields: str) -> list[altair.Tooltip]:
    """Titles by column. Numbers keep the digits that they have."""
    return [altair.Tooltip(f"{name}:N", title=title) for name, title in fields.items()]


def model_scales(params: Params) -> dict[str, Any]:
    """Colour and dashes of the column ``model``, whose values are labels of models."""
    labels = [model_label(params, model) for model in params.models()]
    colours = [f"var(--model-{model})" for model in params.models()]
    dashes = [dash_lengths(params, model) for model in params.models()]
    return {
        "color": named(altair.Color, "model", labels, colours),
        "strokeDash": named(altair.StrokeDash, "model", labels, dashes),
    }


def named(channel: Any, column: str, names: list[str], looks: Sequence[Any]) -> Any:
    """Each name in a column has its own colour, or dashes; the page has the key to them."""
    return channel(f"{column}:N", scale=altair.Scale(domain=names, range=looks), legend=None)


def dash_lengths(params: Params, model: str) -> list[float]:
    """Lengths of dashes and gaps in pixels; [1, 0] is a whole line."""
    dashes = look_of(params, model).dashes
    return [1, 0] if dashes == "solid" else [1.8 * length for length in dashes[1]]


def layer_colours(layers: int) -> list[str]:
    """Those of the figures, a CSS colour each; on a dark page lighter ones of the same hue."""
    return [
        f"color-mix(in srgb, {shade} var(--layer-ink), white)" for shade in layer_shades(layers)
    ]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high for a log axis: powers of ten, or more where those are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        every = [float(f"{step}e{decade}") for decade in decades for step in steps]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= 4:
            break
    return ticks


def log_scale(low: float, high: float, **options: Any) -> altair.Scale:
    """From low to high and no further."""
    return altair.Scale(type="log", domain=[low, high], nice=False, **options)


def names_down(column: str, **options: Any) -> altair.Y:
    """Names in the order in which they come, in lines that end where they have a |."""
    axis = altair.Axis(labelExpr="split(datum.label, '|')", ticks=False, **options)
    return altair.Y(f"{column}:N", title=None, sort=None, axis=axis)


def over_epochs(last: int) -> altair.X:
    """The column ``epoch``; whole ones are marked, half a dozen of them at most."""
    steps = (step * 10**decade for decade in range(9) for step in (1, 2, 5))
    step = next(step for step in steps if last / step <= 6)
    axis = altair.Axis(grid=False, values=list(range(0, last + 1, step)), format="d")
    return altair.X("epoch:Q", scale=altair.Scale(nice=False), axis=axis)


def _readable(spec: Any) -> Any:
    """All numbers rounded: the last bits of a logarithm are not the same on every processor."""
    if isinstance(spec, dict):
        return {name: _readable(value) for name, value in spec.items()}
    if isinstance(spec, list):
        return [_readable(value) for value in spec]
    return float(_rounded(spec)) if isinstance(spec, float) else spec


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if math.isfinite(value) else ""
    return value
