"""`up`, `down`, `status`, and the roles that `up` starts: `control`, `gateway`, `replica`."""

from __future__ import annotations
import typer
def add_to(app: typer.Typer) -> None:
    for c in ():
        app.command()(c)
