"""What commands have in common that scripts call."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import typer

JSON = typer.Option("--json", help="One JSON document on standard output, for scripts.")


@contextlib.contextmanager
def to_standard_error(wanted: bool) -> Iterator[None]:
    """What is printed within the block goes to standard error, if wanted: JSON is to be alone."""
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield
