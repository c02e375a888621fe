"""`doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from shipway.cli.options import Json, StateDir


def doctor(
    *,
    state_dir: StateDir = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every bundle and every audit event.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look for what is wrong or soon will be, with the server up or down; 1: warnings, 2: problems."""
    from shipway.cli.doctors import examine, show_diagnoses
    from shipway.cli.output import show_json

    found, exit_code = examine(state_dir=state_dir, deep=deep)
    if as_json:
        show_json(found)
    else:
        show_diagnoses(found)
    raise typer.Exit(exit_code)


def add_to(app: typer.Typer) -> None:
    """Adds this command to the command line."""
    app.command()(doctor)
