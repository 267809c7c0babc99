"""Tables and plot of docs/performance.md from what ``steps`` and ``epoch`` wrote.

python -m benchmarks.report results/performance/cpu.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from benchmarks.contestants import (
    AUTOGRAD_BP,
    AUTOGRAD_BP_REGULARIZED,
    LITERAL,
    by_module,
    constrained,
)
from pipeline.figures.panels import make_panels
from pipeline.figures.style import style
from pipeline.params.labels import rule_name
from pipeline.params.looks import LOOKS

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted((REPOSITORY / "docs").glob("performance*.md"))
VARIED = {
    "width": "width",
    "hidden_layers": "hidden layers",
    "batch_size": "batch",
    "seeds": "seeds trained together",
}
DRAWN = {
    "gait, λ": ("GAIT-prop, λ", LOOKS["gait"]),
    "bp, λ": ("BP, λ", LOOKS["bp"]),
    AUTOGRAD_BP_REGULARIZED: ("BP by autograd, λ", LOOKS["reference"]),
}


BOTH = "gait, λ", AUTOGRAD_BP_REGULARIZED
ORTHOGONAL = constrained("gait"), constrained("bp")
# Width, batch and seeds of 4 hidden layers; step; what it is compared to; the most aimed at.
AIMS = (
    ((784, 60, 1), *BOTH, 0.60),
    ((256, 60, 1), *BOTH, 0.70),
    ((256, 60, 5), *BOTH, 0.70),
    ((64, 30, 1), *BOTH, 0.75),
    ((64, 30, 5), *BOTH, 0.90),
    ((784, 60, 1), *ORTHOGONAL, 1.15),
    ((256, 60, 1), *ORTHOGONAL, 1.15),
    ((64, 30, 1), *ORTHOGONAL, 1.15),
    ((256, 60, 1), "gait", AUTOGRAD_BP, 1.60),
    ((784, 60, 1), by_module("gait"), "gait", 1.10),
    ((256, 60, 1), by_module("gait"), "gait", 1.10),
)
MOST_OF_CONVOLUTIONS, MOST_OF_FIVE_SEEDS = 1.60, 1.60


def main() -> None:
    """Writes the plot beside the measurements, and the tables into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("measurements", type=Path, nargs="+")
    texts = {page: page.read_text() for page in PAGES}
    for path in parser.parse_args().measurements:
        document = json.loads(path.read_text())
        if "published" in tables(document):
            scaling(document).savefig(path.with_suffix(".svg"))
        for name, table in tables(document).items():
            page = place_of(texts, f"{path.stem} {name}")
            texts[page] = replaced(texts[page], f"{path.stem} {name}", table)
    for page, text in texts.items():
        page.write_text(text)


def place_of(texts: dict[Path, str], name: str) -> Path:
    """The page that has the table's two marks."""
    found = [page for page, text in texts.items() if f"<!-- table: {name} -->" in text]
    if len(found) != 1:
        raise SystemExit(f"report: {len(found)} pages have a place for the table {name!r}")
    return found[0]


def replaced(text: str, name: str, table: str) -> str:
    """The page with what is between the table's two marks made anew."""
    pattern = rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- /table -->)"
    return re.sub(pattern, lambda found: f"{found[1]}\n{table}\n{found[2]}", text, flags=re.DOTALL)


def tables(document: dict[str, Any]) -> dict[str, str]:
    """Markdown, by name."""
    if "epoch" in document:
        return {"parts": _parts(document)}
    if "repro" in document:
        return {"machine": _machine(document["machine"]), "repro": _repro(document["repro"])}
    if "growth" in document:
        return {"growth": _growth(document)}
    if "numerics" in document:
        return {"machine": _machine(document["machine"]), "ratios": _numerics(document)}
    if "rules" in document:
        return {"machine": _machine(document["machine"]), "steps": _rules(document["rules"])}
    shapes = document["shapes"]
    found = {"machine": _machine(document["machine"]), "aims": _aims(document)}
    if LITERAL in shapes[0]["steps"]:
        return {
            **found,
            "published": _published(shapes[0]),
            "shapes": _shapes(shapes),
            "slopes": _slopes(shapes),
            **(
                {"convolutions": _published(document["convolutions"])}
                if "convolutions" in document
                else {}
            ),
        }
    return {**found, "seeds": _seeds(shapes)}


def _repro(found: list[dict[str, Any]]) -> str:
    lines = [
        f"| {each['jobs']} | {each['seconds']:.1f} | {each['training_s']:.1f} |"
        f" {each['imports_s']:.1f} |"
        for each in found
    ]
    return "\n".join(
        [
            "| models trained at once | s | trainings, sum | imports, sum |",
            "|--:|--:|--:|--:|",
            *lines,
            "",
            "Once each; the sums are over all processes.",
        ]
    )


def scaling(document: dict[str, Any]) -> Figure:
    """A step's time as one of the first shape's sizes varies, with the floor of GAIT-prop's."""
    shapes = document["shapes"]
    base = shapes[0]["shape"]
    with style():
        figure, axes = make_panels(1, len(VARIED), 2.6)
        for panel, (field, label) in zip(axes[0], VARIED.items(), strict=True):
            others = [other for other in base if other != field]
            rows = [s for s in shapes if all(s["shape"][o] == base[o] for o in others)]
            rows.sort(key=lambda row: row["shape"][field])
            _draw(panel, rows, field)
            panel.set(xlabel=label, xscale="log", yscale="log")
            ticks = [row["shape"][field] for row in rows]
            panel.set_xticks(ticks, [str(tick) for tick in ticks])
            # Where less than two decades are shown, powers of ten are too few.
            low, high = panel.get_ylim()
            panel.yaxis.set_major_locator(LogLocator(subs=(1,) if high / low > 100 else (1, 2, 5)))
            panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            panel.minorticks_off()
        axes[0][0].set_ylabel("time of a step, ms")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        return figure


def _draw(panel: Axes, rows: Sequence[dict[str, Any]], field: str) -> None:
    where = [row["shape"][field] for row in rows]
    for name, (label, look) in DRAWN.items():
        times = [row["steps"][name]["seconds"] for row in rows]
        middle = [1e3 * each["median"] for each in times]
        low = [1e3 * (each["median"] - each["low"]) for each in times]
        high = [1e3 * (each["high"] - each["median"]) for each in times]
        panel.errorbar(
            where,
            middle,
            yerr=[low, high],
            color=look.colour,
            linestyle=look.dashes,
            marker=look.marker,
            label=label,
        )
    floors = [1e3 * row["steps"]["gait, λ"]["floor_seconds"] for row in rows]
    panel.plot(where, floors, color="0.5", linewidth=0.9, label="floor of GAIT-prop, λ", zorder=1)


def _machine(machine: dict[str, Any]) -> str:
    return (
        "| device | threads | Python | PyTorch | date |\n|---|--:|---|---|---|\n"
        f"| {machine['device']} | {machine['threads']} | {machine['python']} | {machine['torch']}"
        f" | {machine['date']} |\n"
    )


def _published(measured: dict[str, Any]) -> str:
    steps = measured["steps"]
    lines = [
        "| step | ms | ÷ autograd BP | ÷ autograd BP, λ | ÷ literal | ÷ own BP | floor, ms | floor"
        " ÷ time | peak, MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, step in steps.items():
        how = name.partition(", ")[2]
        own = f"bp, {how}" if how in ("λ", "orthogonal") else "bp"
        cells = [
            title(name),
            _interval(step["seconds"], 1e3),
            *(
                _ratio(step, other)
                for other in (AUTOGRAD_BP, AUTOGRAD_BP_REGULARIZED, LITERAL, own)
            ),
            f"{1e3 * step['floor_seconds']:.1f}" if "floor_seconds" in step else "–",
            _share(step),
            _megabytes(step["peak_bytes"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"\nn = {measured['rounds']} rounds.")
    return "\n".join(lines) + "\n"


def _shapes(shapes: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| width | hidden layers | batch | seeds | rounds | autograd BP, λ: ms | BP, λ: ms |"
        " GAIT-prop, λ: ms | ÷ autograd BP, λ | ÷ own BP, λ | floor ÷ time | peak, MB |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for measured in shapes:
        shape, steps = measured["shape"], measured["steps"]
        step = steps["gait, λ"]
        cells = [
            *(str(shape[field]) for field in ("width", "hidden_layers", "batch_size", "seeds")),
            str(measured["rounds"]),
            *(
                _interval(steps[name]["seconds"], 1e3)
                for name in (AUTOGRAD_BP_REGULARIZED, "bp, λ", "gait, λ")
            ),
            _ratio(step, AUTOGRAD_BP_REGULARIZED),
            _ratio(step, "bp, λ"),
            _share(step),
            _megabytes(step["peak_bytes"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _slopes(shapes: Sequence[dict[str, Any]]) -> str:
    """Exponents of growth around the published shape: of the arithmetic, and of the time."""
    base = shapes[0]["shape"]
    lines = [
        "| what grows | from | to | operations ∝ | time ∝ | memory ∝ |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for field, label in VARIED.items():
        others = [other for other in base if other != field]
        rows = [s for s in shapes if all(s["shape"][o] == base[o] for o in others)]
        rows = sorted(
            (row for row in rows if row["shape"][field] >= base[field]),
            key=lambda row: row["shape"][field],
        )
        for first, last in itertools.pairwise(rows):
            steps = [row["steps"]["gait, λ"] for row in (first, last)]
            # Of the network's depth it is the number of weight matrices that counts.
            sizes = [row["shape"][field] + (field == "hidden_layers") for row in (first, last)]
            powers = [
                _exponent(sizes, values)
                for values in (
                    [step["operations"] for step in steps],
                    [step["seconds"]["median"] for step in steps],
                    [step["peak_bytes"] for step in steps],
                )
            ]
            ends = [str(row["shape"][field]) for row in (first, last)]
            lines.append(f"| {' | '.join([label, *ends, *powers])} |")
    return "\n".join(lines) + "\n"


def _exponent(sizes: Sequence[float], values: Sequence[float | None]) -> str:
    low, high = values
    if low is None or high is None:
        return "–"
    return f"{math.log(high / low) / math.log(sizes[1] / sizes[0]):.2f}"


def _growth(document: dict[str, Any]) -> str:
    titles = {
        "images": "images read and split",
        "epochs": "thousand epochs up to number",
        "trials": "trials of a sweep written",
    }
    lines = ["| what | count | s | peak, MB |", "|---|--:|--:|--:|"]
    for kind, rows in document["growth"].items():
        for row in rows:
            cells = [f"{row['count']:,}", _digits(row["seconds"]), _megabytes(row["peak_bytes"])]
            lines.append(f"| {titles[kind]} | {' | '.join(cells)} |")
    lines.append(f"\nOnce each, {document['machine']['date']}.")
    return "\n".join(lines) + "\n"


def _rules(shapes: Sequence[dict[str, Any]]) -> str:
    lines = ["| rule |", "|---|"]
    for measured in shapes:
        lines[0] += f" {measured['shape']['width']} wide: ms | ÷ BP | arithmetic ÷ BP |"
        lines[1] += "--:|--:|--:|"
    for rule in shapes[0]["steps"]:
        cells = [title(rule)]
        for measured in shapes:
            step = measured["steps"][rule]
            cells += [_interval(step["seconds"], 1e3), _interval(step["ratio"], 1.0)]
            cells.append(f"{step['operations_ratio']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    rounds = " and ".join(str(measured["rounds"]) for measured in shapes)
    lines.append(f"\nn = {rounds} rounds.")
    return "\n".join(lines) + "\n"


def _aims(document: dict[str, Any]) -> str:
    """Those that this document has measured."""
    rows: list[tuple[str, float, float, str]] = []
    shapes = {
        tuple(s["shape"][field] for field in ("width", "batch_size", "seeds")): s["steps"]
        for s in document["shapes"]
        if s["shape"]["hidden_layers"] == 4
    }
    for shape, step, other, most in AIMS:
        found = shapes.get(shape, {}).get(step)
        if found and other in found["ratio_to"]:
            width, _, seeds = shape
            told = f"{title(step)} ÷ {title(other)}, {width} wide, {_of_seeds(seeds)}"
            rows.append((told, most, found["ratio_to"][other]["median"], _ratio(found, other)))
    if "convolutions" in document:
        found = document["convolutions"]["steps"]["gait"]
        middle = found["ratio_to"][AUTOGRAD_BP]["median"]
        told = f"**GAIT-prop** ÷ {AUTOGRAD_BP}, convolutions"
        rows.append((told, MOST_OF_CONVOLUTIONS, middle, _ratio(found, AUTOGRAD_BP)))
    pair = [shapes.get((64, 30, seeds), {}).get("gait, λ") for seeds in (5, 1)]
    if all(pair):
        five, one = (step["seconds"]["median"] for step in pair)
        told = "**GAIT-prop**, λ, 64 wide, five seeds ÷ one"
        rows.append((told, MOST_OF_FIVE_SEEDS, five / one, f"{five / one:.2f}"))
    lines = ["| ratio | at most | measured | |", "|---|--:|--:|---|"]
    for told, most, middle, measured in rows:
        lines.append(
            f"| {told} | {most:.2f} | {measured} | {'met' if middle <= most else 'missed'} |"
        )
    return "\n".join(lines) + "\n"


def _of_seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


def _seeds(shapes: Sequence[dict[str, Any]]) -> str:
    """Steps of one seed and of several together, as ratios of medians."""
    alone = shapes[0]["steps"]
    counts = [measured["shape"]["seeds"] for measured in shapes]
    lines = ["| step | " + " | ".join(f"{n} seed{'s' * (n > 1)}: ms" for n in counts)]
    lines[0] += " | " + " | ".join(f"{n} ÷ 1" for n in counts[1:]) + " |"
    lines.append("|---|" + "--:|" * (2 * len(counts) - 1))
    for name in alone:
        times = [measured["steps"][name]["seconds"] for measured in shapes]
        cells = [title(name), *(_interval(each, 1e3) for each in times)]
        cells += [f"{each['median'] / times[0]['median']:.2f}" for each in times[1:]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _numerics(document: dict[str, Any]) -> str:
    rows = document["numerics"]
    shapes = list(dict.fromkeys((r["shape"]["width"], r["shape"]["seeds"]) for r in rows))
    heads = [f"{width} wide, {seeds} seed{'s' * (seeds > 1)}" for width, seeds in shapes]
    lines = [f"| step | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for step in dict.fromkeys(row["step"] for row in rows):
        cells = [
            f"{row['ratio']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
            for row in rows
            if row["step"] == step
        ]
        lines.append(f"| {title(step)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"n = {document['rounds']} rounds."])


def _parts(document: dict[str, Any]) -> str:
    parts = document["epoch"]
    whole = sum(part["mean"] for part in parts.values())
    lines = ["| part of an epoch | s | share |", "|---|--:|--:|"]
    for name, part in parts.items():
        spread = f" ± {part['stdev']:.2f}" if part["stdev"] is not None else ""
        lines.append(f"| {name} | {part['mean']:.2f}{spread} | {part['mean'] / whole:.1%} |")
    lines.append(
        f"\nn = {document['epochs']} epochs of {document['images']} images,"
        f" {document['machine']['date']}."
    )
    return "\n".join(lines) + "\n"


def title(name: str) -> str:
    """What the tables call a step."""
    rule, comma, rest = name.partition(",")
    return ("**GAIT-prop**" if rule == "gait" else rule_name(rule)) + comma + rest


def _interval(spread: dict[str, float], scale: float) -> str:
    return (
        f"{_digits(scale * spread['median'])}"
        f" ({_digits(scale * spread['low'])}–{_digits(scale * spread['high'])})"
    )


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _ratio(step: dict[str, Any], other: str) -> str:
    ratio = step["ratio_to"].get(other)
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})" if ratio else "–"


def _share(step: dict[str, Any]) -> str:
    if "floor_seconds" not in step:
        return "–"
    return f"{step['floor_seconds'] / step['seconds']['median']:.0%}"


def _megabytes(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e6:.0f}"


if __name__ == "__main__":
    main()
