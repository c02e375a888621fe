"""Commands about what the endpoints do: `top`, `metrics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import EndpointName, Json, Server, StateDir

_POINTS = 90


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and end.")] = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show what every endpoint does: requests, errors, latency, replicas, memory; until Ctrl-C."""
    import sys

    from shipway.cli.output import show, show_json
    from shipway.cli.sessions import client_of
    from shipway.cli.tops import picture_of, watch

    with client_of(server, state_dir) as client:
        if as_json:
            return show_json(client.top())
        if once or not sys.stdout.isatty():
            return show(picture_of(client.top()))
        return watch(client)


def metrics(
    endpoint: EndpointName,
    *,
    measure: Annotated[
        str, typer.Option(help="What to show; docs/reference/metrics.md has every measure.")
    ] = "requests_per_s",
    version: Annotated[str, typer.Option(help="Of one version only: `churn:2`.")] = "",
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="How far back: `30m`, `6h`, `7d`.")
    ] = "1h",
    step: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Time between points; 90 points when left out."),
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Write a picture to this file.")] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show a measure of an endpoint and its course."""
    from datetime import UTC, datetime

    from shipway.cli.charts import lines_of, number_of, svg_of
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of
    from shipway.core.durations import duration_of

    span = duration_of(since, name="since")
    step_s = span.total_seconds() / _POINTS
    if step is not None:
        step_s = duration_of(step, name="step").total_seconds()
    now = datetime.now(UTC)  # noqa: TID251 - the command line owns its clock
    with client_of(server, state_dir) as client:
        found = client.measure(
            endpoint, measure, version=version, since=now - span, until=now, step_s=max(1.0, step_s)
        )
    if svg is not None:
        svg.write_text(svg_of(found))
        show_note(f"Wrote {svg}.")
    if as_json:
        return show_json(found)
    value = number_of(found.value, found.unit)
    typer.echo(f"{found.measure} of {version or endpoint} in the last {since}: {value}")
    for line in lines_of(found):
        typer.echo(line)
    return None


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (top, metrics):
        app.command()(command)
