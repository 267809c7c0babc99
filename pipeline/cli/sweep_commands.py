"""``gait sweep``: thin, like every command."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import completion
from pipeline.cli.output import JSON, to_standard_error
from pipeline.project.errors import GaitError

if TYPE_CHECKING:
    from pipeline.params.schema import Params
    from pipeline.params.search_space import Configuration

app = typer.Typer(rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def sweep(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="An existing Ray cluster: `auto` (the one of this machine, or RAY_ADDRESS),"
            " HOST:PORT. It wants an MLflow server, in MLFLOW_TRACKING_URI. Without it this"
            " machine's own cores and GPUs.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A folder that all nodes of a cluster share. The sweep keeps its records and its"
            " trials' states there, so that they outlive this machine, too.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with a sweep that was interrupted, and send what MLflow lacks of it; begin"
            " one where there is none.",
        ),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Drop what there is of the sweep, and begin anew.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the configurations, and run none.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Try many configurations of an experiment, here or on a Ray cluster, and keep the best.

    The section `sweep` of params.yaml says which: a grid, or draws from distributions (random or
    optuna), of any settings by their dotted names, for each rule. A trial trains all its seeds;
    the best has the highest mean validation accuracy. Every trial is a run in MLflow. Results go
    to results/PROFILE/sweep/NAME. Ctrl-C, a crash or a lost machine costs no finished trial.

    Exit code 1 if something is left for --resume, 128 and the signal's number if one stopped it.

    Examples:

        gait sweep --dry-run

        gait sweep

        gait sweep --resume

        gait sweep --json | jq .best.rules.gait.values

        gait sweep best --apply && gait repro

        MLFLOW_TRACKING_URI=http://HOST:5000 gait sweep --address auto --storage /mnt/shared
    """
    if context.invoked_subcommand is not None:
        known = context.command.params
        if given := [each.opts[0] for each in known if context.params.get(str(each.name))]:
            raise GaitError(
                f"received {', '.join(given)} before {context.invoked_subcommand}; allowed: options"
                " after it, such as gait sweep best --json"
            )
        return
    if resume and restart:
        raise GaitError("received --resume and --restart; allowed: one of them")
    from pipeline.params import params_file
    from pipeline.sweep import driver

    params = params_file.load()
    options = driver.Options(address, storage, resume, restart)
    if dry_run:
        if as_json and params.sweep.search == "optuna":
            raise GaitError(
                "received --dry-run and --json, and sweep.search is optuna, which suggests one"
                " configuration after the other; allowed: with grid or random"
            )
        configurations = driver.dry_run(params, options)
        if as_json:
            print(json.dumps([each._asdict() for each in configurations], indent=2))
        else:
            _list(configurations, params.sweep.trials * len(params.sweep.rules))
        return
    with to_standard_error(as_json):
        code = driver.run(params, options)
    if as_json:
        print(json.dumps(_outcome(params, code), indent=2))
    raise typer.Exit(code)


@app.command()
def best(
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Write the winners into params.yaml, keeping its comments."),
    ] = False,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="RULE", help="With --apply: this rule's alone.", autocompletion=completion.rules
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show each rule's best trial of the finished sweep, or write them into params.yaml.

    `gait repro` then trains and tests what has changed.

    Examples:

        gait sweep best

        gait sweep best --apply && gait repro

        gait sweep best --apply --rule gait

        gait sweep best --json | jq .rules.gait.values
    """
    from pipeline.params import params_file
    from pipeline.sweep import best as winners

    winners.run(params_file.load(), apply, rule, as_json)


def _outcome(params: Params, code: int) -> dict[str, Any]:
    """Where the results are, and each rule's best; neither where trials are left."""
    from pipeline.project.paths import sweep_results_folder
    from pipeline.sweep import winners

    folder = sweep_results_folder(params.profile, params.sweep.name)
    found = winners.read(folder).model_dump() if code == 0 else None
    return {"finished": code == 0, "results": str(folder) if found else None, "best": found}


def _list(configurations: list[Configuration], suggested: int) -> None:
    for each in configurations:
        print(each)
    if configurations:
        rules = Counter(each.rule for each in configurations)
        parts = ", ".join(f"{count} of {rule}" for rule, count in rules.items())
        print(f"{len(configurations)} trials: {parts}")
    else:
        print(f"{suggested} trials, suggested one by one by Optuna from what came before")
