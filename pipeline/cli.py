"""The ``gait`` command: thin; each stage of dvc.yaml is one of its commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline import record_commands
from pipeline.errors import GaitError, os_sentence
from pipeline.interruption import Interrupted
from pipeline.sweep import commands as sweep_commands

# Imports that take seconds (torch, MLflow, matplotlib) wait until a command needs them.

app = typer.Typer(
    name="gait",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Tracked, reproducible experiments on GAIT-prop. Run it in the project's folder: all"
    " settings are in params.yaml. `gait repro` does everything that has changed; the other stages"
    " can also be run one by one.",
)

app.add_typer(sweep_commands.app, name="sweep")
app.command()(record_commands.reproduce)
app.command()(record_commands.provenance)

INTERRUPTED = 130


@app.command()
def download(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image sets; those of params.yaml if none is named.", show_default=False
        ),
    ] = None,
) -> None:
    """Fetch image archives, verify them and keep them as tensors.

    Archives that are already in the data root (GAIT_DATA_ROOT, or archives.root in params.yaml)
    are verified and not fetched again; broken ones are fetched anew.

    Examples:

        gait download

        gait download mnist fashion

        GAIT_DATA_ROOT=/data/torchvision gait download mnist
    """
    from pipeline import config, image_sets
    from pipeline.stages import download as stage

    params = config.load()
    chosen = datasets or params.run.datasets
    for name in chosen:
        image_sets.image_set(name)
    for name in chosen:
        path = stage.run(params, name, progress=sys.stderr.isatty())
        print(f"{name}: verified, in {path}")


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(help="An image set of run.datasets.")],
    architecture: Annotated[str, typer.Argument(help="One of run.architectures.")],
    model: Annotated[str, typer.Argument(help="One of run.rules, or `reference`.")],
) -> None:
    """Train one model, all its seeds side by side, and record it in MLflow.

    Writes models/PROFILE/DATASET/ARCHITECTURE/MODEL. Nothing is written if training diverges.
    A training that was interrupted, by Ctrl-C, SIGTERM or a crash, goes on where it was.

    Examples:

        gait train digits square gait

        gait train digits square reference
    """
    from pipeline import config
    from pipeline.project import ModelKey
    from pipeline.stages import train as stage

    params = config.load()
    for what, received, allowed in (
        ("data set", dataset, params.run.datasets),
        ("architecture", architecture, params.run.architectures),
        ("model", model, params.models()),
    ):
        _refuse_unknown(what, received, allowed)
    stage.run(params, ModelKey(params.profile, dataset, architecture, model))


@app.command()
def evaluate() -> None:
    """Evaluate every trained model on the test set and write the tables.

    Writes results/PROFILE/summary.json, .csv and .md, seeds.csv and curves.csv, and adds the test
    figures to the models' MLflow runs.

    Example:

        gait evaluate
    """
    from pipeline import config
    from pipeline.stages import evaluate as stage

    for path in stage.run(config.load()):
        print(path)


@app.command()
def plot() -> None:
    """Draw learning curves, alignment with BP, orthogonality and final accuracies.

    Writes results/PROFILE/plots/*.svg.

    Example:

        gait plot
    """
    from pipeline import config
    from pipeline.stages import plot as stage

    for path in stage.run(config.load()):
        print(path)


@app.command()
def report() -> None:
    """Judge the paper's claims by the results: one page, and the same for programs.

    Writes results/PROFILE/report.html and claims.json. What `gait verify --json` and `gait sweep`
    left below results/ is shown where it is there. The page needs no network.

    Examples:

        gait report

        jq '.claims[].findings[] | [.about, .verdict]' results/digits/claims.json
    """
    from pipeline import config
    from pipeline.stages import report as stage

    for path in stage.run(config.load()):
        print(path)


@app.command()
def profile(
    name: Annotated[
        str | None,
        typer.Argument(help="The profile to put into params.yaml.", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a params.yaml that has been edited.")
    ] = False,
) -> None:
    """Put a profile into params.yaml; without a name, list the profiles.

    Examples:

        gait profile

        gait profile mnist && gait repro
    """
    from pipeline import profiles

    if name is not None:
        profiles.use(name, force)
        print(f"params.yaml is now the profile {name}; `gait repro` runs it")
        return
    current = profiles.current()
    for known in profiles.names():
        print(f"{'*' if known == current else ' '} {known}")
    if current is None:
        print("params.yaml is none of them as it stands")


@app.command()
def verify(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output, for scripts.")
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(help="Also draw error against depth here (.svg or .png).", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.")] = "cpu",
) -> None:
    """Show on this machine that GAIT-prop is backpropagation where weights are orthogonal.

    Compares every rule to autograd at 1 to 64 hidden layers, in float64 and float32, as computed
    here and as published; counts the units that γ pushes across the kink; and lets the weights
    leave orthogonality. Needs no data and no params.yaml. Exit code 1 if the theorem fails.

    Examples:

        gait verify

        gait verify --json | jq .holds

        gait verify --figure error_against_depth.svg
    """
    from rich.console import Console

    from pipeline import verify as verification
    from pipeline import verify_tables

    if figure is not None:
        verification.check_figure(figure)
    document = verification.measure(device)
    if figure is not None:
        verification.write_figure(document, figure)
    if as_json:
        print(verification.as_json(document))
    else:
        verify_tables.show(document, Console())
    if not document["holds"]:
        raise typer.Exit(1)


@app.command()
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON list on standard output, for scripts.")
    ] = False,
) -> None:
    """Check what the project needs here: Python, torch, DVC, MLflow, Ray, data, disk.

    Says what to do about each thing that is not as it should be. Exit code 1 if there is any.

    Examples:

        gait doctor

        gait doctor --json | jq '.[] | select(.advice)'
    """
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from pipeline import doctor as checks

    findings = checks.examine()
    if as_json:
        print(json.dumps([asdict(each) for each in findings], indent=2))
    else:
        table = Table("", "", "found", "what to do", box=None)
        for each in findings:
            table.add_row("ok" if each.well else "!!", each.name, each.found, each.advice or "")
        Console().print(table)
    if not all(each.well for each in findings):
        raise typer.Exit(1)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's pages on this machine (127.0.0.1 alone) until Ctrl-C.

    Example:

        gait ui --port 5001
    """
    from pipeline import tracking

    uri = tracking.tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise GaitError(f"MLFLOW_TRACKING_URI is a server already: open {uri} in a browser")
    tracking.open_experiment("Default")
    print(f"MLflow: http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", uri, "--workers", "1"]
    command += ["--default-artifact-root", tracking.artifact_folder().as_uri()]
    _become(command)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def repro(context: typer.Context) -> None:
    """Run every stage whose code, data or parameters have changed (`dvc repro`).

    Further arguments go to `dvc repro`.

    Examples:

        gait repro

        gait repro --force

        gait repro --dry
    """
    from pipeline import config, own_code, repro
    from pipeline.stages import evaluate as stage

    params = config.load()
    own_code.link(params)
    _prepare_environment()
    dry = "--dry" in context.args
    if not dry:
        stage.deliver_what_can_be(params)
    code = repro.run(context.args)
    if code:
        sys.exit(code)
    if not dry:
        stage.complete_runs(params)


def main() -> None:
    """Runs the command; a ``GaitError`` is one sentence on standard error and exit code 2."""
    try:
        app()
    except GaitError as error:
        print(f"gait: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # A disk that is full, a folder that cannot be read: never a matter of this program.
        print(f"gait: {os_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as signal:
        print(f"gait: {signal}", file=sys.stderr)
        sys.exit(signal.exit_code)
    except KeyboardInterrupt:
        print("gait: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _refuse_unknown(what: str, received: str, allowed: list[str]) -> None:
    if received not in allowed:
        import difflib

        near = difflib.get_close_matches(received, allowed, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise GaitError(
            f"unknown {what} {received!r}{hint}; allowed by params.yaml: {', '.join(allowed)}"
        )


def _become(command: list[str]) -> NoReturn:
    """Goes on as another program: signals and the exit code are its own."""
    _prepare_environment()
    sys.stdout.flush()
    os.execve(command[0], command, dict(os.environ))


def _prepare_environment() -> None:
    """For what is started from here: this interpreter's folder comes first on PATH."""
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    os.environ |= {"PATH": os.pathsep.join(path), "DO_NOT_TRACK": "true"}
