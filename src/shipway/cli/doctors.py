"""What the doctor says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.text import Text

from shipway.cli.output import show_table
from shipway.core.health import Diagnosis, Level, summary_of
from shipway.settings import read_settings
from shipway.supervisor.doctor.visit import diagnoses

EXIT_CODES = {Level.OK: 0, Level.WARNING: 1, Level.PROBLEM: 2}
"""What a script sees."""

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def examine(*, state_dir: Path | None, deep: bool) -> tuple[list[Diagnosis], int]:
    """Everything that was found, and the exit code of the worst of it."""
    settings = read_settings(state_dir=state_dir)
    # The command line owns its clock.
    found = list(diagnoses(settings, deep=deep, now=datetime.now(UTC)))  # noqa: TID251
    return found, EXIT_CODES[summary_of(found)]


def show_diagnoses(found: list[Diagnosis]) -> None:
    """Shows what was found, and below it what to do, worst first."""
    rows = [
        (one.check, Text(one.level.value, style=_STYLES[one.level]), one.message) for one in found
    ]
    show_table(("check", "", "found"), rows)
    todo = [one for one in found if one.next_step]
    for one in sorted(todo, key=lambda one: one.level is not Level.PROBLEM):
        typer.echo(f"\n{one.message}\n  Next: {one.next_step}")
    if not todo:
        typer.echo("\nNothing is wrong.")
