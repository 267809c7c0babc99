"""`gait reproduce` and `gait provenance`."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GaitError

if TYPE_CHECKING:
    from pipeline.reproduce import Outcome

DIFFERENT = 1


def reproduce(
    run: Annotated[
        str | None, typer.Argument(help="Id of an MLflow run.", show_default=False)
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="A folder of published results, in place of a run.", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With --check: all models, not one drawn at random.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="With --check: draws the same model again.", show_default=False),
    ] = None,
) -> None:
    """Train a recorded model again and compare: every weight and every figure, bit by bit.

    A run's config, data and code are those it recorded: the working tree if its code is the same,
    else the recorded commit, checked out aside. A published table is remade with the working
    tree's code and parameters. Nothing of this folder changes. Exit code 1 if anything differs.

    Examples:

        gait reproduce 8a1f0c2d9e7b4f6a8c3d5e1f0a2b4c6d

        gait reproduce --check results/digits

        gait reproduce --check results/digits --all
    """
    from pipeline import reproduce as made_again

    if (run is None) == (check is None):
        raise GaitError("give either the id of a run or --check FOLDER, and not both")
    if check is None and (everything or seed is not None):
        raise GaitError(f"--{'all' if everything else 'seed'} goes with --check FOLDER")
    if everything and seed is not None:
        raise GaitError("give either --all or --seed, and not both")
    if run is not None:
        outcomes = [made_again.of_run(run)]
    else:
        assert check is not None
        if seed is None and not everything:
            seed = random.SystemRandom().randrange(10**6)
            print(f"one model, drawn with --seed {seed}")
        outcomes = made_again.of_table(check, seed)
    for outcome in outcomes:
        _show(outcome)
    if any(outcome.differences for outcome in outcomes):
        raise typer.Exit(DIFFERENT)


def provenance(
    file: Annotated[Path, typer.Argument(help="A table, plot or report of results/.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output, for scripts.")
    ] = False,
) -> None:
    """Tell how a table, plot or report came to be: params, code, data, commit and MLflow runs.

    Hashes are read from provenance.json or report.provenance.json beside the file; the commit from
    git; the runs are those of this MLflow store that made the very models that the file shows. Exit
    code 1 if the file is not what was made.

    Examples:

        gait provenance results/digits/summary.csv

        gait provenance results/digits/plots/final_accuracy.svg --json
    """
    from pipeline import provenance_chain

    chain = provenance_chain.of_file(file)
    print(json.dumps(chain, indent=2) if as_json else "\n".join(provenance_chain.as_lines(chain)))
    if not chain["as_made"]:
        raise typer.Exit(DIFFERENT)


def _show(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    if not outcome.differences:
        print(f"{outcome.name}: identical, history and weights, to the last bit")
        return
    print(f"{outcome.name}: different")
    table = Table("quantity", "first at", "largest difference", "relative")
    for each in outcome.differences:
        numbers = (each.absolute, each.relative)
        table.add_row(
            each.what, each.where, *("–" if math.isnan(n) else f"{n:.3g}" for n in numbers)
        )
    console = Console()
    console.print(table)
    if outcome.facts:
        facts = Table("may explain it", "recorded", "here")
        for name, (recorded, here) in outcome.facts.items():
            facts.add_row(name, recorded, here)
        console.print(facts)
    elif outcome.recorded:
        print("No recorded version or fact of the machine differs from what is here.")
    else:
        print("No MLflow run of this result is known here: its versions and machine are not.")
