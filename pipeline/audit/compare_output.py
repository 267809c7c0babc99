"""A comparison for a terminal, and as a page of its own."""

from __future__ import annotations

import html
import io
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.audit.compare_sources import METRICS
from pipeline.params.labels import value_text
from pipeline.project.files import write_whole

_BARS = "▁▂▃▄▅▆▇█"
# So many epochs of a curve are shown in a line.
_POINTS = 40
_CURVES_INCHES = (4.4, 2.8)
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: auto; max-width: 60rem; padding: 1rem }}
/* A shadow at an edge says that there is more: covers that scroll along hide it where not. */
.wide {{ overflow-x: auto; background:
  linear-gradient(to right, Canvas 40%, transparent) 0 0 / 3rem 100% no-repeat local,
  linear-gradient(to left, Canvas 40%, transparent) 100% 0 / 3rem 100% no-repeat local,
  linear-gradient(to right, #8888, transparent) 0 0 / 1rem 100% no-repeat scroll,
  linear-gradient(to left, #8888, transparent) 100% 0 / 1rem 100% no-repeat scroll }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }}
th, td {{ border-bottom: 1px solid #8886; padding: .3rem .8rem .3rem 0; text-align: left }}
svg {{ background: white; height: auto; max-width: 36rem; width: 100% }}
</style>
<h1>{title}</h1>
<p>Mean ± sample standard deviation over the seeds. Differences are to the first, with their
95 % confidence interval (Student's t): paired over the seeds that both have, else Welch's.
Accuracies in percent, their differences in percentage points.</p>
{body}
</html>
"""


def settings_table(comparison: dict[str, Any]) -> list[list[str]]:
    """A head and a row a setting that differs."""
    head = ["setting", *(row["name"] for row in comparison["rows"])]
    rows = [
        [name, *("–" if v is None else value_text(v) for v in values)]
        for name, *values in comparison["settings"]
    ]
    return [head, *rows]


def figures_table(comparison: dict[str, Any]) -> list[list[str]]:
    """A head and a row a metric: figures of each subject, then differences to the first."""
    first, *others = comparison["rows"]
    names = [row["name"] for row in comparison["rows"]]
    head = ["", *names, *(f"{row['name']} − {first['name']}" for row in others)]
    body = []
    for metric in first["metrics"]:
        found = [row["metrics"][metric] for row in comparison["rows"]]
        values = [_value(metric, each) for each in found]
        body.append([METRICS[metric], *values, *(_difference(metric, e) for e in found[1:])])
    counts = [
        max((each["n"] for each in row["metrics"].values()), default=0)
        for row in comparison["rows"]
    ]
    own = zip(others, counts[1:], strict=True)
    body.append(["seeds", *map(str, counts), *(_how(row, max(counts[0], n)) for row, n in own)])
    return [head, *body]


def with_letters(comparison: dict[str, Any], width: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The comparison with A, B, … for names that are too long for tables of so many characters.

    And what each letter stands for; nothing where the names stay.
    """
    rows = comparison["rows"]
    if len(rows) > len(string.ascii_uppercase):
        return comparison, {}
    named = list(zip(string.ascii_uppercase, rows, strict=False))
    short = {**comparison, "rows": [{**row, "name": letter} for letter, row in named]}
    if _width(comparison) <= max(width, _width(short)):
        return comparison, {}
    return short, {letter: row["name"] for letter, row in named}


def curves_table(comparison: dict[str, Any]) -> list[list[str]]:
    """A head and a row a subject: validation accuracy over the epochs, on one scale."""
    # The untrained network would take most of the scale.
    curves = [(row["name"], list(row["curve"].values())[1:]) for row in comparison["rows"]]
    values = [value for _, curve in curves for value in curve]
    if not values:
        return []
    low, high = min(values), max(values)
    scale = f"validation accuracy, {100 * low:.1f} to {100 * high:.1f} %"
    rows = [[n, _bars(curve, low, high), str(len(curve))] for n, curve in curves if curve]
    return [["", scale, "epochs"], *rows]


def write_page(comparisons: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes one page that needs nothing else."""
    names = list(dict.fromkeys(row["name"] for each in comparisons for row in each["rows"]))
    title = f"Compared: {', '.join(names)}"
    parts = []
    for each in comparisons:
        parts.append(f"<h2>{html.escape(each['model'])}</h2>")
        parts.append(_table(figures_table(each)))
        if each["settings"]:
            parts += ["<h3>Settings that differ</h3>", _table(settings_table(each))]
        else:
            parts.append("<p>No recorded setting differs.</p>")
        if any(row["curve"] for row in each["rows"]):
            parts += ["<h3>Validation accuracy over the epochs</h3>", _curves(each)]
    page = _PAGE.format(title=html.escape(title), body="\n".join(parts))
    write_whole(path, page.encode())


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in body]
    return f'<div class="wide" tabindex="0"><table>{"".join(lines)}</table></div>'


def _curves(comparison: dict[str, Any]) -> str:
    from pipeline.figures.panels import epoch_axes, make_panels
    from pipeline.figures.style import style

    with style():
        figure, panels = make_panels(1, 1, 2.4)
        # On a phone, too, its letters can be read.
        figure.set_size_inches(_CURVES_INCHES)
        panel = panels[0, 0]
        for index, row in enumerate(comparison["rows"]):
            # The untrained network would take most of the axis.
            epochs = [int(epoch) for epoch in row["curve"]][1:]
            accuracies = [100 * value for value in row["curve"].values()][1:]
            # Curves that coincide stay visible through each other's gaps.
            dashes = (index, (4, index)) if index else "-"
            panel.plot(
                epochs, accuracies, label=row["name"], color=f"C{index % 10}", linestyle=dashes
            )
        epoch_axes(panels)
        panel.set_ylabel("validation accuracy (%)")
        panel.legend()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _width(comparison: dict[str, Any]) -> int:
    columns = zip(*figures_table(comparison), strict=True)
    return sum(3 + max(map(len, column)) for column in columns)


def _bars(values: Sequence[float], low: float, high: float) -> str:
    step = max(1, -(-len(values) // _POINTS))
    shown = [*values[::step], *([values[-1]] if (len(values) - 1) % step else [])]
    span = (high - low) or 1.0
    return "".join(_BARS[min(7, int(8 * (value - low) / span))] for value in shown)


def _value(metric: str, figures: dict[str, Any]) -> str:
    if figures["mean"] is None:
        return "–"
    scale, digits = (100, 2) if metric.endswith("accuracy") else (1, 4)
    spread = figures["deviation"]
    more = f" ± {scale * spread:.{digits}f}" if spread is not None else ""
    return f"{scale * figures['mean']:.{digits}f}{more}"


def _difference(metric: str, figures: dict[str, Any]) -> str:
    found = figures["difference"]
    if found is None:
        return "–"
    scale, digits = (100, 2) if metric.endswith("accuracy") else (1, 4)
    text = f"{scale * found['mean']:+.{digits}f}"
    if found["low"] is None:
        return text
    return f"{text} [{scale * found['low']:+.{digits}f}, {scale * found['high']:+.{digits}f}]"


def _how(row: dict[str, Any], most: int) -> str:
    """How the differences of a subject are taken; it and the first have so many seeds at most."""
    found = [each["difference"] for each in row["metrics"].values() if each["difference"]]
    if not found:
        return "–"
    if not found[0]["paired"]:
        return "not paired (Welch)"
    shared = found[0]["n"]
    # A reader would else look for the difference of the two means, which are of more seeds.
    return f"paired, n = {shared}" if shared == most else f"paired, over the {shared} shared"
