"""What ``gait verify`` prints: tables for readers, from the document that ``--json`` writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.params.labels import rule_name

Row = dict[str, Any]
PRECISIONS = ("float64", "float32")


def show(document: dict[str, Any], console: Console) -> None:
    """Prints the tables and the verdict."""
    settings, rows = document["settings"], document["comparisons"]
    console.print(
        "Difference of each rule's gradients to backpropagation's (autograd), relative to them:"
        f" the largest over layers and {len(settings['seeds'])} seeds. Orthogonal weights, leaky"
        f" ReLU of slope {settings['negative_slope']:g}, γ = {settings['gamma']:g}."
        " [bold]stable[/]: as this library computes it; [bold]published[/]: as the paper does."
    )
    gait = [row for row in rows if (row["rule"], row["activation"]) == ("gait", "leaky_relu")]
    console.print(_comparisons("GAIT-prop", gait, rule_column=False))
    others = [row for row in rows if row not in gait]
    for activation, title in (
        ("leaky_relu", "The other rules: for ITP and TP there is no theorem"),
        ("linear", "Linear networks: all rules are BP"),
    ):
        chosen = [row for row in others if row["activation"] == activation]
        console.print(_comparisons(title, chosen, rule_column=True))
    console.print(_kink(document["kink"]))
    console.print(
        "γ = 0 is the limit, computed exactly. A unit that the step γ^k D²e pushes across the kink"
        " of the leaky ReLU is inverted with the other side's slope, and there GAIT-prop differs"
        " from BP: the theorem is tested on the samples without such a unit."
    )
    console.print(_convolutions(document["convolutions"]))
    console.print(_rescalings(document["rescalings"]))
    console.print(
        "Rescaled: the follow-up's evaluation, by steps of equal length in every layer and sample:"
        " off by rounding divided by that length."
    )
    console.print(_departures(document["departures"]))
    console.print(
        "GAIT-prop at γ = 0 in networks of 4 hidden layers that are not quite orthogonal. First"
        " order: what docs/theory_deviations.md predicts; bound: what it can never exceed."
    )
    if failed := failures(document):
        console.print("[bold red]The theorem FAILS[/]:")
        for line in failed:
            console.print(f"  {line}", markup=False)
    else:
        shares = [row["stable"] / row["tolerance"] for row in rows if row["holds"]]
        console.print(
            "[bold green]The theorem holds[/]: every difference is below what rounding may make of"
            f" it in its network and precision; the largest is {max(shares):.2f} of that."
        )


def failures(document: dict[str, Any]) -> list[str]:
    """One line for each row whose theorem does not hold."""
    lines = [
        f"{rule_name(row['rule'])}, {row['activation']}, {row['network']}, {row['precision']},"
        f" γ = {row['gamma']:g}: {_figure(row['stable'])} (allowed: {_figure(row['tolerance'])})"
        for row in (*document["comparisons"], *document["kink"], *document["convolutions"])
        if row["holds"] is False
    ]
    lines += [
        f"GAIT-prop, {row['hidden_layers']} × {row['width']}, {row['precision']}:"
        f" {_figure(row['stable'])} (allowed: {_figure(row['tolerance'])}), by steps of"
        f" {row['length']:g}: {_figure(row['rescaled'])}"
        for row in document["rescalings"]
        if not row["holds"]
    ]
    return lines + [
        f"GAIT-prop, ‖WᵀW − I‖ = {row['norm']:g}: {_figure(row['measured'])}, a layer is above its"
        f" bound (the largest: {_figure(row['bound'])})"
        for row in document["departures"]
        if not row["holds"]
    ]


def _comparisons(title: str, rows: list[Row], rule_column: bool) -> Table:
    forms = [f"{form}\n{precision}" for form in ("stable", "published") for precision in PRECISIONS]
    left_out = [] if rule_column else ["left out"]
    numbers = (*forms, "across\nkink", *left_out, "theorem")
    table = _table(title, ["hidden × width", *(["rule"] if rule_column else [])], numbers)
    for pair in _pairs(rows):
        wide = pair["float64"]
        table.add_row(
            _network(wide["network"]),
            *([rule_name(wide["rule"])] if rule_column else []),
            *(_figure(pair[p]["stable"]) for p in PRECISIONS),
            *("–" if wide["rule"] == "bp" else _figure(pair[p]["literal"]) for p in PRECISIONS),
            str(wide["crossings"]),
            *(f"{wide['left_out']}/{wide['samples']}" for _ in left_out),
            _verdict([row["holds"] for row in pair.values()]),
        )
    return table


def _kink(rows: list[Row]) -> Table:
    title = "GAIT-prop, 4 hidden layers, float64: units pushed across the kink"
    numbers = ("across kink", "of", "left out", "kept samples", "all samples", "theorem")
    table = _table(title, ["γ"], numbers)
    for row in rows:
        table.add_row(
            f"{row['gamma']:g}",
            str(row["crossings"]),
            str(row["units"]),
            f"{row['left_out']}/{row['samples']}",
            _figure(row["stable"]),
            _figure(row["whole_batch"]),
            _verdict([row["holds"]]),
        )
    return table


def _convolutions(rows: list[Row]) -> Table:
    title, numbers = "GAIT-prop in networks with convolutions", (*PRECISIONS, "left out", "theorem")
    table = _table(title, ["network"], numbers)
    for pair in _pairs(rows):
        wide = pair["float64"]
        table.add_row(
            wide["network"],
            *(_figure(pair[p]["stable"]) for p in PRECISIONS),
            f"{wide['left_out']}/{wide['samples']}",
            _verdict([row["holds"] for row in pair.values()]),
        )
    return table


def _rescalings(rows: list[Row]) -> Table:
    numbers = ("precision", "length", "stable", "rescaled", "published", "theorem")
    table = _table("GAIT-prop as the follow-up evaluates it", ["hidden × width"], numbers)
    for row in rows:
        table.add_row(
            _network(f"{row['hidden_layers']} × {row['width']}"),
            row["precision"],
            f"{row['length']:g}",
            *(_figure(row[name]) for name in ("stable", "rescaled", "literal")),
            _verdict([row["holds"]]),
        )
    return table


def _departures(rows: list[Row]) -> Table:
    numbers = ("‖WᵀW − I‖_F/√n", "measured", "first order", "bound", "within")
    table = _table("Leaving orthogonality", ["‖WᵀW − I‖₂"], numbers)
    for row in rows:
        names = ("norm", "defect", "measured", "first_order", "bound")
        table.add_row(*(_figure(row[name]) for name in names), _verdict([row["holds"]]))
    return table


def _table(title: str, texts: Iterable[str], numbers: Iterable[str]) -> Table:
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _pairs(rows: Iterable[Row]) -> list[dict[str, Row]]:
    """The precisions of one network and rule, side by side."""
    pairs: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        pairs.setdefault((row["network"], row["rule"]), {})[row["precision"]] = row
    return list(pairs.values())


def _network(name: str) -> str:
    return name.rjust(len("99 × 99"))


def _figure(value: float | None) -> str:
    return "inf" if value is None else f"{value:.1e}"


def _verdict(holds: list[bool | None]) -> str:
    if None in holds:
        return "[dim]none[/]"
    return "[green]holds[/]" if all(holds) else "[bold red]FAILS[/]"
