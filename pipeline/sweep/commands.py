"""``gait sweep``: thin, like every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    rich_markup_mode="markdown",
    help="Try many configurations of an experiment, and keep the best.",
)


@app.callback(invoke_without_command=True)
def sweep(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster: `auto`, HOST:PORT or ray://HOST:PORT.", metavar="ADDR"),
    ] = None,
    storage: Annotated[
        Path | None,
        typer.Option(help="A folder that all nodes share, for the trials' states.", metavar="PATH"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished sweep.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Drop what a sweep has, and run it anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the configurations, and run none.")] = False,
) -> None:
    """Try many configurations."""
    if context.invoked_subcommand is not None:
        return
    from pipeline import config
    from pipeline.sweep import driver

    params = config.load()
    if dry_run:
        for each in driver.plan(params):
            print(each)
        return
    raise typer.Exit(driver.run(params, driver.Options(address, storage, resume, restart)))
