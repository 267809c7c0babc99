"""What commands have in common that scripts call."""

from __future__ import annotations

import contextlib
import io
import os
import sys

import typer

JSON = typer.Option("--json", help="One JSON document on standard output, for scripts.")


def open_closed_streams() -> None:
    """Standard output and error that were closed go nowhere, in place of into the next file."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def show_every_letter() -> None:
    """Letters that standard output or error cannot show, of ASCII say, are shown as escapes.

    Tables have letters such as γ and ±, and names of files may have any.
    """
    for stream in (sys.stdout, sys.stderr):
        # A notebook's are others, and show all.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_json(text: str) -> None:
    """To standard output, in UTF-8 whatever it can show: JSON knows no escapes but its own."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(text)


def to_standard_error(wanted: bool) -> contextlib.AbstractContextManager[object]:
    """What is printed within the block goes to standard error, if wanted: JSON is to be alone."""
    return contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext()
