"""Commands about what became of predictions: `shipway feedback` and `shipway performance`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import TIME_FORMATS, EndpointName, Json, Server, StateDir


class By(StrEnum):
    """What to part the answers by."""

    SEGMENT = "segment"
    HOUR = "hour"
    DAY = "day"


def feedback(
    name: EndpointName,
    *,
    request_id: Annotated[str | None, typer.Option(help="The id of the request.")] = None,
    key: Annotated[
        str | None, typer.Option(help="The business key; its last prediction is meant.")
    ] = None,
    row: Annotated[int | None, typer.Option(help="The row of the request, from 0.", min=0)] = None,
    label: Annotated[str | None, typer.Option(help="The class that was right.")] = None,
    score: Annotated[float | None, typer.Option(help="The number that was right.")] = None,
    outcome: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="A business metric.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="When it became known; now when left out.")] = None,
    message_id: Annotated[
        str | None, typer.Option("--id", help="What is sent twice under one id counts once.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="A `.csv`, `.jsonl` or `.parquet` file; `-` is JSON lines."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check all of it; send nothing.")
    ] = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Say what became of predictions: of one, or of all in a file.

    A file may be sent again at any time, also after it broke off: what is known already counts once.
    """
    from shipway.cli.feedback import items_in
    from shipway.cli.output import show_json
    from shipway.cli.sending import one_item, sent
    from shipway.cli.sessions import client_of

    given = {
        "request_id": request_id, "key": key, "row": row, "label": label, "score": score,
        "id": message_id, "at": at,
    }  # fmt: skip
    items = one_item(given, outcome or [], file=file) if file is None else items_in(file)
    if file is not None:
        one_item(given, outcome or [], file=file)
    with client_of(server, state_dir) as client:
        count = sent(client, name, items, dry_run=dry_run)
    if as_json:
        show_json({"accepted": count, "dry_run": dry_run})
    else:
        typer.echo(f"{count:,} {'sound; nothing was sent' if dry_run else 'kept'}.")


def performance(
    name: EndpointName,
    *,
    version: Annotated[int | None, typer.Option(help="One version alone.", min=1)] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Predictions from then on, UTC.", formats=TIME_FORMATS),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(help="Predictions before then, UTC.", formats=TIME_FORMATS),
    ] = None,
    by: Annotated[By | None, typer.Option(help="Part the answers further.")] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Draw it, as SVG, or as PNG by the file's name.")
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show how good an endpoint's predictions were, as far as feedback says.

    By version and role, with 95 % intervals and the share whose truth is not known yet.
    """
    from shipway.cli.output import show_json, show_note
    from shipway.cli.performance import show_performance
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.performance(
            name, version=version, since=since, until=until, by=None if by is None else by.value
        )
    if svg is not None:
        from shipway.monitoring.performance_chart import draw

        draw(found, svg)
        show_note(f"Drawn to `{svg}`.")
    if as_json:
        show_json(found)
    else:
        show_performance(found)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command()(feedback)
    app.command()(performance)
