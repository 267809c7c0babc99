"""What the verdicts follow from: error against depth, and differences between models by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair
import numpy

from pipeline.report.charts.chart_look import (
    Chart,
    finished,
    log_scale,
    named,
    names_down,
    table,
    tooltip,
)
from pipeline.report.verdicts import Finding
from pipeline.results.equivalence import MARGIN

FORMS = {"stable": ("stable form", "var(--stable)"), "literal": ("as published", "var(--literal)")}
PRECISIONS = {"float64": [1, 0], "float32": [7, 3]}

MOST_POINTS = 5.0
"""Percentage points: models farther apart are surely not equivalent, and are drawn at the edge."""

HIGHEST = 1e6
"""Where larger differences are drawn, at the frame's edge: they are no gradients any more."""


def leaky_rows(verification: Mapping[str, Any]) -> list[dict[str, Any]]:
    """GAIT-prop's, of networks with leaky ReLU."""
    kind = ("gait", "leaky_relu")
    return [r for r in verification["comparisons"] if (r["rule"], r["activation"]) == kind]


def error_against_depth(verification: Mapping[str, Any]) -> Chart:
    """GAIT-prop's difference to BP (log axis) against depth, in both forms and precisions."""
    rows = [
        {
            "form": f"{label}, {row['precision']}",
            "precision": row["precision"],
            "depth": row["hidden_layers"],
            "drawn": min(HIGHEST if row[form] is None else row[form], HIGHEST),
            "difference": "not finite" if row[form] is None else row[form],
            "network": row["network"],
            "wide": "784 wide" if row["width"] == 784 else "narrow",
        }
        for row in leaky_rows(verification)
        if row["shape"] == "square"
        for form, (label, _) in FORMS.items()
    ]
    names = [f"{label}, {precision}" for label, _ in FORMS.values() for precision in PRECISIONS]
    colours = [colour for _, colour in FORMS.values() for _ in PRECISIONS]
    dashes = list(PRECISIONS.values()) * len(FORMS)
    depths = sorted({row["depth"] for row in rows})
    base = altair.Chart(table(rows)).encode(
        x=altair.X(
            "depth:Q",
            title="hidden layers",
            scale=log_scale(depths[0] / 1.1, depths[-1] * 1.1),
            axis=altair.Axis(values=[d for d in depths if math.log2(d) % 1 == 0], grid=False),
        ),
        y=altair.Y(
            "drawn:Q",
            title="difference to BP, relative",
            scale=log_scale(1e-16, HIGHEST),
            axis=altair.Axis(
                values=[10.0**n for n in range(-16, 7, 4)],
                labelExpr="datum.value == 1 ? '1' : '1e' + round(log(datum.value) / log(10))",
            ),
        ),
        color=named(altair.Color, "form", names, colours),
        tooltip=tooltip(
            form="evaluated", network="hidden layers × width", difference="relative difference"
        ),
    )
    narrow = base.transform_filter("datum.wide == 'narrow'")
    line = narrow.mark_line(strokeWidth=2, clip=True).encode(
        strokeDash=named(altair.StrokeDash, "form", names, dashes)
    )
    dots = narrow.mark_point(filled=True, size=50, opacity=1)
    paper = base.transform_filter("datum.wide != 'narrow'").mark_point(
        shape="diamond", size=140, strokeWidth=2.5, fill="var(--page)"
    )
    one = altair.Chart(table([{"one": 1}])).mark_rule(color="var(--text)", strokeDash=[2, 3])
    return finished(
        "error-against-depth",
        "",
        "Relative difference of GAIT-prop's gradients to backpropagation's, against the number of"
        " hidden layers, logarithmic axes, a line a form and precision. The table below has the"
        " numbers.",
        340,
        one.encode(y="one:Q"),
        line,
        dots,
        paper,
    )


def differences(
    name: str, findings: Sequence[Finding], interval: tuple[str, str], most: float = math.inf
) -> Chart:
    """Differences in test accuracy (percentage points), a line a comparison, a dot a seed.

    ``interval`` names the numbers that are its bounds, which only findings with a spread have. What
    is farther out than ``most`` is drawn at the edge.
    """

    def drawn(row: Mapping[str, Any], *columns: str) -> dict[str, float]:
        return {f"drawn_{name}": float(numpy.clip(row[name], -most, most)) for name in columns}

    points: list[dict[str, Any]] = [
        {
            "about": _broken(each),
            "seed": seed,
            "difference": 100 * value,
            "n": len(each.differences),
        }
        for each in findings
        for seed, value in each.differences.items()
    ]
    bars: list[dict[str, Any]] = [
        {
            "about": _broken(each),
            "mean": 100 * each.numbers["mean"],
            "low": 100 * each.numbers.get(interval[0], math.nan),
            "high": 100 * each.numbers.get(interval[1], math.nan),
            "n": each.numbers["seeds"],
        }
        for each in findings
    ]
    points = [{**row, **drawn(row, "difference")} for row in points]
    bars = [{**row, **drawn(row, "mean", "low", "high")} for row in bars]
    ends = [
        1.1 * value
        for row in (*points, *bars)
        for name, value in row.items()
        if name.startswith("drawn_") and math.isfinite(value)
    ]
    low, high = min(-160 * MARGIN, *ends), max(160 * MARGIN, *ends)
    scale = altair.Scale(domain=[low, high], nice=False)
    across = _points("drawn_difference", scale=scale, axis=altair.Axis(tickCount=6))
    down = names_down("about", labelLimit=400)
    margin = altair.Chart(table([{"from": -100 * MARGIN, "to": 100 * MARGIN, "zero": 0}]))
    band = margin.mark_rect(color="var(--band)").encode(x=_points("from"), x2="to:Q")
    zero = margin.mark_rule(color="var(--line)").encode(x=_points("zero"))
    means = altair.Chart(table(bars)).encode(
        y=down,
        tooltip=tooltip(mean="mean difference", low="interval from", high="to", n="seeds"),
    )
    bar = means.mark_rule(strokeWidth=3, color="var(--text)").encode(
        x=_points("drawn_low"), x2="drawn_high:Q"
    )
    tick = means.mark_tick(thickness=3, size=20, color="var(--text)").encode(
        x=_points("drawn_mean")
    )
    dots = (
        altair.Chart(table(points))
        .mark_point(filled=True, size=70, opacity=0.85, color="var(--stable)")
        .encode(
            x=across,
            y=down,
            yOffset=altair.YOffset("seed:N", scale=altair.Scale(paddingOuter=1)),
            tooltip=tooltip(seed="seed", difference="difference (points)"),
        )
    )
    return finished(
        name,
        "",
        "Differences in test accuracy between two models, a dot a seed, with mean and confidence"
        f" interval; the band is ±{100 * MARGIN:g} percentage point. "
        + " ".join(f"{f.about}: mean {100 * f.numbers['mean']:+.2f}." for f in findings),
        76 * len(findings),
        band,
        zero,
        dots,
        bar,
        tick,
    )


def _points(column: str, **options: Any) -> altair.X:
    """A column along the axis that all layers share, and so its title."""
    return altair.X(f"{column}:Q", title="difference (percentage points)", **options)


def _broken(finding: Finding) -> str:
    """A comparison's name in short lines."""
    about = finding.about
    for between, shorter in ((": ", ":|"), (" against ", "|− "), (" with ", "|")):
        about = about.replace(between, shorter)
    return about
