"""Commands about endpoints: `deploy`, `apply`, `get`, `delete`, `predict`, `rollback`, `logs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import (
    DryRun,
    EndpointName,
    Json,
    NoWait,
    Reason,
    Server,
    StateDir,
    TimeoutS,
)

Supersede = Annotated[
    bool, typer.Option("--supersede", help="Take the place of a rollout that is under way.")
]


def deploy(
    model: Annotated[str, typer.Argument(help="`churn:2`, `churn@champion` or `churn` (newest).")],
    *,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", "-e", help="The endpoint; the model's name if left out."),
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Copies to run (process placement).")] = None,
    min_replicas: Annotated[
        int | None, typer.Option(help="Follow the load from so many; 0 lets it sleep when idle.")
    ] = None,
    max_replicas: Annotated[int | None, typer.Option(help="Follow the load up to so many.")] = None,
    residency: Annotated[
        str | None, typer.Option(help="In a memory budget: `auto`, `preload` or `pinned`.")
    ] = None,
    placement: Annotated[str | None, typer.Option(help="`auto`, `inline` or `process`.")] = None,
    warm_s: Annotated[
        float | None, typer.Option("--warm", help="Seconds to keep the old version warm.")
    ] = None,
    environment: Annotated[str | None, typer.Option(help="Environment that serves it.")] = None,
    capture: Annotated[
        bool, typer.Option("--capture", help="Keep its predictions; rules that it has stay.")
    ] = False,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="How it replaces the version before: `canary`, `blue_green`, `shadow`, `ab`, or"
            " `none` for all at once; several make a chain. The endpoint keeps it."
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Canary: its shares, such as `5,25,50`.")
    ] = None,
    hold: Annotated[
        float | None, typer.Option(help="Seconds that each step, preview or shadow lasts at least.")
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="Shadow: per cent of requests that are copied.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="A/B: the outcome that decides.")] = None,
    goal: Annotated[str | None, typer.Option(help="A/B: `increase` or `decrease`.")] = None,
    weight: Annotated[int | None, typer.Option(help="A/B: the new version's per cent.")] = None,
    bake: Annotated[
        float | None, typer.Option(help="Blue-green: seconds to watch after the switch.")
    ] = None,
    pause: Annotated[
        bool, typer.Option("--pause", help="A person lets it go on at the end of each stage.")
    ] = False,
    success: Annotated[
        str | None, typer.Option(help="What the change is for; kept on record with it.")
    ] = None,
    supersede: Supersede = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout_s: TimeoutS = 300.0,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Put a version behind an endpoint: start and warm it, switch or roll it out, drain the old one."""
    from shipway.cli.changes import carried_out, spec_fields
    from shipway.cli.output import show_json
    from shipway.cli.plans import plan_of, steps_of
    from shipway.cli.sessions import client_of

    fields = spec_fields(
        replicas=replicas,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        residency=residency,
        placement=placement,
        warm_s=warm_s,
        environment=environment,
        capture=capture,
    )
    options = {
        "steps": steps_of(steps),
        "hold": hold,
        "share": share,
        "metric": metric,
        "goal": goal,
        "weight": weight,
        "bake": bake,
        "pause": pause,
    }
    if (plan := plan_of(strategy or [], options, success=success)) is not None:
        fields["rollout"] = plan
    with client_of(server, state_dir) as client:
        accepted = client.deploy(
            model,
            endpoint=endpoint,
            dry_run=dry_run,
            supersede=supersede,
            reason=reason,
            wait=False,
            **fields,
        )
        change = carried_out(
            client,
            accepted,
            label=f"Deploying {model}",
            timeout_s=None if no_wait else timeout_s,
            as_json=as_json,
        )
    if as_json:
        show_json(change)


def apply(
    *,
    file: Annotated[
        Path, typer.Option("--file", "-f", help="YAML with one or more endpoints; `-` reads stdin.")
    ],
    supersede: Supersede = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout_s: TimeoutS = 300.0,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Make endpoints what a YAML file says they are."""
    from shipway.cli.changes import carried_out
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of
    from shipway.cli.specs import specs_in

    specs = specs_in(file)
    with client_of(server, state_dir) as client:
        changes = [
            carried_out(
                client,
                client.apply(spec, dry_run=dry_run, supersede=supersede, reason=reason, wait=False),
                label=f"Applying {spec.name}",
                timeout_s=None if no_wait else timeout_s,
                as_json=as_json,
            )
            for spec in specs
        ]
    if as_json:
        show_json(changes)


def get(
    name: Annotated[str | None, typer.Argument(help="The endpoint; all when left out.")] = None,
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show one endpoint with its variants and replicas, or list all endpoints."""
    from shipway.cli.endpoints import show_endpoint, show_endpoints
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        if name is None:
            found = client.endpoints()
            return show_json(found) if as_json else show_endpoints(found)
        endpoint = client.endpoint(name)
        return show_json(endpoint) if as_json else show_endpoint(endpoint, client)


def delete(
    name: EndpointName,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Stop and forget an endpoint. Its models stay registered."""
    from shipway.cli.changes import confirmed, show_change
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        if not (dry_run or yes or confirmed(f"Delete endpoint `{name}`?")):
            raise typer.Exit(1)
        change = client.delete(name, dry_run=dry_run, reason=reason)
    show_change(change, as_json=as_json)


def predict(
    name: EndpointName,
    source: Annotated[
        str | None, typer.Argument(help="JSON text, a file of rows, or `-` for stdin.")
    ] = None,
    *,
    data: Annotated[Path | None, typer.Option(help="Rows: CSV, Parquet, JSON, npy.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="A column that is no input.")
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Ask an endpoint for predictions."""
    from shipway.cli.output import columns_of, show_json, show_note, show_table
    from shipway.cli.rows import rows_from
    from shipway.cli.sessions import client_of

    rows = rows_from(source=source, path=data, drop=drop or [])
    with client_of(server, state_dir) as client:
        prediction = client.predict(name, rows)
    if as_json:
        return show_json(prediction)
    names, table = columns_of(prediction.outputs)
    show_table(names, table)
    rows_said = "1 row" if len(table) == 1 else f"{len(table)} rows"
    return show_note(f"{rows_said}, from version {prediction.version or '?'} of `{name}`.")


def rollback(
    name: EndpointName,
    *,
    reason: Reason = "",
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout_s: TimeoutS = 300.0,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Bring back the version that served before."""
    from shipway.cli.changes import show_change, waiting
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client, waiting(f"Rolling back {name}"):
        change = client.rollback(
            name, dry_run=dry_run, reason=reason, wait=not no_wait, timeout_s=timeout_s
        )
    show_change(change, as_json=as_json)


def logs(
    name: EndpointName,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing new lines.")
    ] = False,
    tail: Annotated[int, typer.Option(help="How many lines to begin with.")] = 200,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Print the last lines of an endpoint's replicas."""
    from shipway.cli.following import new_lines
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        first = client.logs(name, tail=tail)
        if as_json:
            return show_json(first)
        for line in first.lines:
            typer.echo(line)
        if not first.lines:
            show_note(
                f"`{name}` has no lines. A version that runs inline writes to the gateway's log,"
                " in `logs/` of the state directory."
            )
        if follow:
            for line in new_lines(client, name, seen=first.lines):
                typer.echo(line)
        return None


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (deploy, apply, get, delete, predict, rollback, logs):
        app.command()(command)
