"""Commands on what has been recorded: models, runs and results, kept, compared and handed on."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.cli import completion
from pipeline.cli.output import JSON, to_standard_error
from pipeline.project.errors import GaitError
from pipeline.project.files import check_file
from pipeline.project.interruption import interruptible

if TYPE_CHECKING:
    from pipeline.audit.reproduce import Outcome


def register(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model of run.rules, or `reference`; the best of run.rules if none is named.",
            autocompletion=completion.models,
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Register evaluated models in MLflow's registry, to be loaded and served by name.

    The best is that of the highest validation accuracy, mean over the seeds, of the rules that
    run.rules names (BP of the reference is what they are compared to, and must be asked for). It
    gets the alias `best`, a model that is named its own name. A data set and an architecture have a
    registered model each, PROFILE-DATASET-ARCHITECTURE. What has a version already gets no second.

    Examples:

        gait register

        gait register gait

        gait register --json | jq -r '.[].uri'
    """
    from pipeline.params import params_file
    from pipeline.tracking import registry

    made = registry.register(params_file.load(), model)
    if as_json:
        print(json.dumps(made, indent=2))
        return
    for each in made:
        why = "" if model else f", of the highest validation accuracy ({each['validation']} %)"
        print(
            f"{each['uri']} is version {each['version']}: {each['model']}{why}, run {each['run']}"
        )


def reproduce(
    run: Annotated[str | None, typer.Argument(help="Id of an MLflow run.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="A folder of published results, in place of a run.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With --check: all models, not one drawn at random.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="With --check: this one, as DATASET/ARCHITECTURE/MODEL.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and train nothing.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Train a recorded model again and compare: every weight and every figure, bit by bit.

    A run's config, data and code are those it recorded: the working tree if its code is the same,
    else the recorded commit, checked out aside. A published table is remade with the working
    tree's code and parameters. Nothing of this folder changes, but that images which are missing
    are fetched. Exit code 1 if anything differs.

    Examples:

        gait reproduce 8a1f0c2d9e7b4f6a8c3d5e1f0a2b4c6d

        gait reproduce --check results/digits

        gait reproduce --check results/digits --all --dry-run

        gait reproduce --check results/digits --model digits/square/gait

        gait reproduce --check results/digits --json | jq '.[].identical'
    """
    from pipeline.audit import reproduce as made_again

    if (run is None) == (check is None):
        received = "neither" if run is None else "both"
        raise GaitError(f"received {received}; allowed: the id of a run, or --check FOLDER")
    if check is None and (everything or model is not None):
        raise GaitError(f"--{'all' if everything else 'model'} goes with --check FOLDER")
    if everything and model is not None:
        raise GaitError("give either --all or --model, and not both")
    if dry_run and as_json:
        raise GaitError("received --dry-run and --json; allowed: one of them")
    if check is not None and model is None and not everything:
        # Of the system's own generator: whoever runs this is not to choose by a seed.
        model = random.SystemRandom().choice(made_again.models_of_table(check, None))
        print(f"drawn at random: --model {model}", file=sys.stderr if as_json else sys.stdout)
    if dry_run and check is not None:
        for name in made_again.models_of_table(check, model):
            print(f"{name}: would be trained with this tree's code and parameters")
        return
    if dry_run:
        print(made_again.plan_of_run(str(run)))
        return
    outcomes = []
    try:
        with to_standard_error(as_json), interruptible():
            found: Iterable[Outcome] = (
                made_again.of_table(check, model) if check else [made_again.of_run(str(run))]
            )
            # Each is said once it is known: the next may take an hour.
            for outcome in found:
                _show(outcome)
                sys.stdout.flush()
                outcomes.append(outcome)
    finally:
        # Also of those before one that could not be made again, or before Ctrl-C.
        if as_json and (outcomes or sys.exc_info()[0] is None):
            print(json.dumps([_plain(outcome) for outcome in outcomes], indent=2))
    if any(outcome.differences for outcome in outcomes):
        raise typer.Exit(1)


def provenance(
    file: Annotated[Path, typer.Argument(help="A table, plot or report of results/.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Tell how a table, plot or report came to be: params, code, data, commit and MLflow runs.

    Hashes are read from provenance.json or report.provenance.json beside the file, of plots from
    plots.provenance.json beside their folder; the commit from git; the runs are those of this
    MLflow store that made the very models that the file shows. Exit code 1 if the file is not what
    was made.

    Examples:

        gait provenance results/digits/summary.csv

        gait provenance results/digits/plots/final_accuracy.svg --json
    """
    from pipeline.audit import provenance_chain

    chain = provenance_chain.of_file(file)
    print(json.dumps(chain, indent=2) if as_json else "\n".join(provenance_chain.as_lines(chain)))
    if not chain["as_made"]:
        raise typer.Exit(1)


def export(
    destination: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    results: Annotated[
        Path | None,
        typer.Option(help="A folder of results/; the profile's of params.yaml if none is named."),
    ] = None,
) -> None:
    """Write results as a Workflow Run RO-Crate: files, and what made each from what.

    The crate holds the results, params.yaml, dvc.yaml and dvc.lock, and the models if they are
    here; what is left out is named with its checksum. Its profile is Provenance Run Crate 0.5.
    Refused: results and models that have changed since they were made, and params that they were
    not made with.

    Examples:

        gait export crate

        gait export crate --results results/mnist_256
    """
    from pipeline.audit import export_crate
    from pipeline.params import params_file
    from pipeline.project.paths import results_folder

    chosen = results or results_folder(params_file.load().profile)
    count = export_crate.write(chosen, destination)
    print(f"{destination}: {count} files of {chosen}, described in {export_crate.METADATA}")


def import_runs(as_json: Annotated[bool, JSON] = False) -> None:
    """Make MLflow runs of models that came by `dvc pull`, from what the models record.

    `gait ui`, `register`, `reproduce` and `provenance` then work as where they were trained. Test
    figures come from seeds.csv. Nothing is trained; what the store knows already stays as it is.

    Examples:

        dvc pull && gait import-runs

        gait import-runs --json
    """
    from pipeline.audit import import_runs
    from pipeline.params import params_file
    from pipeline.stages import evaluate as stage

    params = params_file.load()
    with to_standard_error(as_json):
        # A training that MLflow could not be told of has a run of its own to come.
        stage.deliver_what_can_be(params)
        done = import_runs.run(params)
        stage.complete_runs(params)
    if as_json:
        print(json.dumps(done, indent=2))
        return
    for model, what in done.items():
        print(f"{model}: {what}")


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Two or more of: results folders, profiles, MLflow runs, whole MLflow experiments"
            " (mlflow:NAME), git revisions, DVC experiments; differences are to the first."
        ),
    ],
    page: Annotated[Path | None, typer.Option(help="Also write a page (.html) here.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Compare results: settings that differ, metrics with intervals, curves.

    Differences are paired over the seeds that both sides have. Models of the same data set,
    architecture and name are compared; where there are none, those of the same architecture and
    name, or of the same name; single runs are, whatever they are called.

    Examples:

        gait compare HEAD~1 results/digits

        gait compare results/mnist_256 results/fashion_256 --page compared.html

        gait compare 8a1f0c2d9e7b4f6a8c3d5e1f0a2b4c6d 33d011633b5e4b949e3d9272c3ece710

        gait compare mlflow:digits mlflow:digits_convolution

        gait compare main weaker --json | jq '.[].settings'
    """
    from pipeline.audit import compare_models, compare_output
    from pipeline.audit.compare_sources import find_all

    if len(what) < 2:
        raise GaitError(f"received {what[0]} alone; allowed: two things to compare, or more")
    if page is not None:
        check_file(page, "--page", (".html",))
    subjects = find_all(what)
    found = compare_models.compare(subjects)
    notes = [sentence for each in subjects for sentence in each.notes]
    for sentence in [*notes, *compare_models.left_out(subjects, found)]:
        print(sentence, file=sys.stderr)
    if page is not None:
        compare_output.write_page(found, page)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show_comparisons(found)


def _show_comparisons(comparisons: list[dict[str, Any]]) -> None:
    from pipeline.audit import compare_output as text

    console = Console(width=None if sys.stdout.isatty() else 1000)
    for each in comparisons:
        print(each["model"])
        each, names = text.with_letters(each, console.width)
        for letter, name in names.items():
            print(f"  {letter}: {name}")
        for rows in (text.figures_table(each), text.settings_table(each), text.curves_table(each)):
            if len(rows) > 1:
                table = Table(*map(escape, rows[0]), box=SIMPLE_HEAD)
                for row in rows[1:]:
                    table.add_row(*map(escape, row))
                console.print(table)
        if not each["settings"]:
            print("  no recorded setting differs")


def _plain(outcome: Outcome) -> dict[str, Any]:
    # JSON has no number for what is relative to a recorded 0.
    differences = [
        {
            k: v if isinstance(v, str) or math.isfinite(v) else None
            for k, v in each._asdict().items()
        }
        for each in outcome.differences
    ]
    return {
        "model": outcome.name,
        "identical": not differences,
        "differences": differences,
        "recorded": outcome.recorded,
        "facts": outcome.facts,
    }


def _show(outcome: Outcome) -> None:
    if not outcome.differences:
        print(f"{outcome.name}: identical, history and weights, to the last bit")
        return
    print(f"{outcome.name}: different")
    table = Table("quantity", "first at", "largest difference", "relative")
    for what, where, *numbers in outcome.differences:
        table.add_row(what, where, *("–" if math.isnan(n) else f"{n:.3g}" for n in numbers))
    Console().print(table)
    if outcome.facts:
        facts = Table("may explain it", "recorded", "here")
        for name, (recorded, here) in outcome.facts.items():
            facts.add_row(name, escape(recorded), escape(here))
        Console().print(facts)
    elif outcome.recorded:
        print("No recorded version or fact of the machine differs from what is here.")
    else:
        print("No MLflow run of this result is known here: its versions and machine are not.")
