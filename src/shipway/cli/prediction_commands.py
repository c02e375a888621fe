"""Commands about the prediction log: `predictions …`, `explain`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from shipway.cli.options import TIME_FORMATS, EndpointName, Json, Server, StateDir


def query(
    name: EndpointName,
    *,
    where: Annotated[
        str, typer.Option(help="A condition over the columns, as in SQL: `age > 40 AND label = 1`.")
    ] = "",
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", help="Only this column; several times for several."),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Only what this version (a number) answered.", min=1)
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=TIME_FORMATS, help="From then on (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=TIME_FORMATS, help="Before then (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.", min=1)] = 100,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV; up to a million rows.")] = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List predictions that were captured, newest first."""
    from shipway.cli.output import show_json
    from shipway.cli.predictions import show_csv, show_rows
    from shipway.cli.sessions import client_of
    from shipway.client.logged import LogFilters

    filters: LogFilters = {
        "where": where,
        "columns": columns or (),
        "version": version,
        "since": since,
        "until": until,
        "limit": limit,
    }
    with client_of(server, state_dir) as client:
        if as_csv:
            return show_csv(client.export_predictions(name, format="csv", **filters))
        found = client.predictions(name, **filters)
    return show_json(found) if as_json else show_rows(found)


def stats(
    name: Annotated[
        str | None, typer.Argument(help="The endpoint's name; all when left out.")
    ] = None,
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Say how much of the log is stored, of which versions and times."""
    from shipway.cli.output import show_json
    from shipway.cli.predictions import show_stats
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.prediction_stats(name)
    return show_json(found) if as_json else show_stats(found)


def explain(
    request_id: Annotated[str, typer.Argument(help="As `x-request-id` of the answer says it.")],
    *,
    endpoint: Annotated[
        str | None, typer.Option(help="The endpoint; all logs are searched when left out.")
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show one request: what was asked, which version answered what, and what became of it."""
    from shipway.cli.output import show_json
    from shipway.cli.predictions import show_explanation
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.explain(request_id, endpoint=endpoint)
    return show_json(found) if as_json else show_explanation(found)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for command in (query, stats):
        group.command()(command)
    app.add_typer(group, name="predictions", help="Query the predictions that were captured.")
    app.command()(explain)
