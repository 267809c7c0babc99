"""Commands on this folder and this machine: profiles, the theorem, doctor, MLflow's pages."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.cli import completion
from pipeline.cli.output import JSON, write_json
from pipeline.project.environment import prepare_environment
from pipeline.project.errors import GaitError
from pipeline.project.files import check_file
from pipeline.project.redaction import shown

# https://fetch.spec.whatwg.org/#port-blocking, from 1024 on.
_REFUSED_BY_BROWSERS = {
    *(1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566),
    *(6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
}


def profile(
    name: Annotated[
        str | None,
        typer.Argument(
            help="The profile to put into params.yaml.", autocompletion=completion.profiles
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a params.yaml that has been edited.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Put a profile into params.yaml; without a name, list the profiles.

    Examples:

        gait profile

        gait profile mnist_256 && gait repro

        gait profile --json | jq -r '.profiles[]'
    """
    from pipeline.params import profiles

    if name is not None:
        profiles.use(name, force)
    current = profiles.current()
    if as_json:
        print(json.dumps({"current": current, "profiles": profiles.names()}, indent=2))
        return
    if name is not None:
        print(f"params.yaml is now the profile {name}; `gait repro` runs it")
        return
    for known in profiles.names():
        print(f"{'*' if known == current else ' '} {known}")
    if current is None:
        print("params.yaml is none of them as it stands")


def params(
    schema: Annotated[
        bool, typer.Option("--schema", help="As a JSON Schema, for editors and programs.")
    ] = False,
) -> None:
    """Print every key of params.yaml: type, bounds, default, and what it decides.

    Examples:

        gait params | less

        gait params --schema > params.schema.json
    """
    from pipeline.params import settings_reference

    if schema:
        write_json(settings_reference.as_json())
    else:
        sys.stdout.write(settings_reference.as_markdown())


def verify(
    as_json: Annotated[bool, JSON] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw error against depth here (.svg or .png).")
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
    from pipeline.verify import printed_tables, theorem_check

    if figure is not None:
        check_file(figure, "--figure", (".svg", ".png"))
    document = theorem_check.measure(device)
    if figure is not None:
        theorem_check.write_figure(document, figure)
    if as_json:
        write_json(f"{theorem_check.as_json(document)}\n")
    else:
        printed_tables.show(document, Console())
    if not document["holds"]:
        raise typer.Exit(1)


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Also start Ray on this machine, and stop it.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Also look at this Ray cluster: its nodes' ports and versions, from here.",
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Try what the project needs here: Python, torch, DVC, git, MLflow, Ray, data, disk.

    Writes and deletes an artifact in the MLflow store and draws a picture. Says what to do about
    each thing that is not as it should be. Exit code 1 if there is any.

    Examples:

        gait doctor

        gait doctor --deep

        gait doctor --address auto

        gait doctor --json | jq '.[] | select(.advice)'
    """
    from pipeline.cli import doctor as checks

    findings = checks.examine(deep, address)
    if as_json:
        print(json.dumps([each._asdict() for each in findings], indent=2))
    else:
        table = Table("", "", "found", "what to do", box=None)
        for each in findings:
            said = map(escape, (each.name, each.found, each.advice or ""))
            table.add_row("!!" if each.advice else "ok", *said)
        Console().print(table)
    if any(each.advice for each in findings):
        raise typer.Exit(1)


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's pages on this machine (127.0.0.1 alone) until Ctrl-C.

    Example:

        gait ui --port 5001
    """
    from pipeline.tracking import run_view, store

    uri = store.tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise GaitError(f"MLFLOW_TRACKING_URI is a server already: open {shown(uri)} in a browser")
    if port in _REFUSED_BY_BROWSERS:
        print(f"gait: browsers open no pages on port {port}; they do on 5000", file=sys.stderr)
    with socket.socket() as probe:
        # As servers do: a port that another has just left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise GaitError(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); give another one with"
                " --port"
            ) from None
    address = f"http://127.0.0.1:{port}"
    print(f"MLflow: {address} (Ctrl-C ends it)")
    with store.explained():
        experiments = store.any_store().search_experiments(order_by=["last_update_time DESC"])
    for experiment in experiments:
        if experiment.name != "Default":
            # From its front page MLflow leads to what it has for language models.
            page = f"{address}/#/experiments/{experiment.experiment_id}/runs"
            view = f"&{run_view.QUERY}" if run_view.TAG in experiment.tags else ""
            print(f"  {experiment.name}: {page}?workflowType=machine_learning{view}")
    sys.stdout.flush()
    # What else its server would start, three processes for jobs on language models, serves nothing.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # Not as an argument, which everybody on this machine may read: it may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", store.artifact_folder().as_uri()]
    prepare_environment()
    # From here on signals and the exit code are the server's.
    os.execv(command[0], command)
