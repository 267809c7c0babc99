"""The ``gait`` command: thin; each stage of dvc.yaml is one of its commands."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import suppress
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from pipeline.cli import project_commands as project
from pipeline.cli import record_commands as records
from pipeline.cli import stage_commands as stages
from pipeline.cli import sweep_commands
from pipeline.cli.output import open_closed_streams, show_every_letter
from pipeline.project import environment, running_code
from pipeline.project.errors import GaitError, os_sentence
from pipeline.project.interruption import Interrupted
from pipeline.project.redaction import without_password
from pipeline.project.source import source

# Imports that take seconds (torch, MLflow, matplotlib) wait until a command needs them.

app = typer.Typer(
    name="gait",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tracked, reproducible experiments on GAIT-prop. Run it in the project's folder: all"
    " settings are in params.yaml. `gait repro` does everything that has changed; the other stages"
    " can also be run one by one.",
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"gait {metadata.version('gait')}, commit {source().commit}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and the commit.",
            callback=_tell_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Takes what belongs to no command."""


# Whatever `dvc repro` knows is passed on to it.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command(context_settings=PASSED_ON)(stages.repro)
for command in (
    *(stages.download, stages.train, stages.evaluate, stages.plot, stages.report),
    *(project.profile, project.params, project.verify, project.doctor, project.ui),
    *(records.register, records.reproduce, records.provenance, records.compare, records.export),
):
    app.command()(command)
app.command("import-runs")(records.import_runs)
app.add_typer(sweep_commands.app, name="sweep")


def main() -> None:
    """Runs the command; a ``GaitError`` is one sentence on standard error and exit code 2."""
    # What a notebook's shell names is not there in every environment, and matplotlib then refuses.
    os.environ["MPLBACKEND"] = "agg"
    _forgive_warnings()
    open_closed_streams()
    show_every_letter()
    try:
        environment.check()
        running_code.check()
        app(prog_name="gait")
    except GaitError as error:
        _end(without_password(str(error)), 2)
    except OSError as error:
        # A disk that is full, a folder that cannot be read: never a matter of this program.
        _drop_unwritten_output()
        _end(without_password(os_sentence(error)), 2)
    except Interrupted as stop:
        _end(str(stop), stop.exit_code)
    except KeyboardInterrupt:
        _end("interrupted", 128 + signal.SIGINT)
    except ValueError as error:
        # Of a package that offers a rule or images, say. The library is loaded by then, or not.
        library = sys.modules.get("gaitprop.errors")
        if library is None or not isinstance(error, library.ArgumentError):
            raise
        _end(str(error), 2)


def _end(why: str, code: int) -> NoReturn:
    # The terminal may be gone.
    with suppress(OSError):
        print(f"gait: {why}", file=sys.stderr)
    sys.exit(code)


def _forgive_warnings() -> None:
    """Where warnings are to be errors: those of other packages would end what works."""
    if any(each.startswith("e") for each in sys.warnoptions):
        os.environ.pop("PYTHONWARNINGS", None)
        warnings.simplefilter("ignore")


def _drop_unwritten_output() -> None:
    """Output that nobody takes: Python would try once more, and end with a code of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
