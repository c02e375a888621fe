"""Commands about evaluations: `evaluate`, `evaluations`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import Json, Server, StateDir


def evaluate(
    version: Annotated[str, typer.Argument(help="`churn:2`, `churn@champion` or `churn`.")],
    *,
    data: Annotated[Path, typer.Option("--data", help="Held-out rows: Parquet, CSV, JSON or npz.")],
    label: Annotated[str, typer.Option("--label", help="The column of the truth.")],
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help="A column by whose values it is judged, too."),
    ] = None,
    against: Annotated[
        str, typer.Option(help="`live`, another version such as `churn:1`, or `none`.")
    ] = "live",
    task: Annotated[
        str | None,
        typer.Option(help="`classification` or `regression`, where the outputs do not say."),
    ] = None,
    load: Annotated[
        int, typer.Option(metavar="CALLERS", help="Measure latency under so many callers at once.")
    ] = 0,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Judge a version on held-out data, against the live one; kept with the version."""
    from shipway.cli.evaluations import show_evaluation, show_left
    from shipway.cli.output import progress, show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        with progress(f"Evaluating {version}") as on_progress:
            found = client.evaluate(
                version,
                data,
                label=label,
                slices=slices or (),
                against=against,
                task=task,
                load=load,
                on_progress=on_progress,
            )
        show_left(client.endpoints())
    if as_json:
        return show_json(found)
    return show_evaluation(found)


def evaluations(
    version: Annotated[str, typer.Argument(help="`churn:2`, `churn@champion` or `churn`.")],
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List how a version did on held-out data, newest first."""
    from shipway.cli.evaluations import show_evaluations
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.evaluations(version)
    if as_json:
        return show_json(found)
    return show_evaluations(version, found)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (evaluate, evaluations):
        app.command()(command)
