"""Commands about what serving costs: `cost`, and with `--advice` or `--budgets` what follows from it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from shipway.cli.options import TIME_FORMATS, Json, Server, StateDir


def cost(
    *,
    by: Annotated[
        str,
        typer.Option(
            help="What to sum by: `endpoint`, `version`, `tenant`, `use_case`, `hour`, `day`; several with commas."
        ),
    ] = "endpoint",
    endpoint: Annotated[str, typer.Option("--endpoint", "-e", help="Of this one alone.")] = "",
    since: Annotated[
        datetime | None,
        typer.Option(formats=TIME_FORMATS, help="From then on; UTC. 30 days back when left out."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=TIME_FORMATS, help="Before then; UTC.")
    ] = None,
    budgets: Annotated[bool, typer.Option("--budgets", help="Where budgets stand.")] = False,
    advice: Annotated[
        bool, typer.Option("--advice", help="What would make it cheaper, and by how much.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show what serving cost, where budgets stand, or how it could cost less."""
    from shipway.cli.costs import show_advice, show_budgets, show_costs, show_csv
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        if budgets:
            standing = client.budgets()
            return show_json(standing) if as_json else show_budgets(standing)
        if advice:
            found = client.cost_advice(since=since)
            return show_json(found) if as_json else show_advice(found)
        groups = tuple(part.strip() for part in by.split(",") if part.strip())
        report = client.costs(by=groups, since=since, until=until, endpoint=endpoint)
    if as_json:
        return show_json(report)
    return show_csv(report) if as_csv else show_costs(report)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command()(cost)
