"""Commands about alerts: `alerts`, `alerts show`, `ack`, `resolve`, `act`, `silence`, `rules`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from shipway.cli import channel_commands
from shipway.cli.options import DryRun, EndpointName, Json, Server, StateDir

AlertId = Annotated[str, typer.Argument(help="The alert's id, as `shipway alerts list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why, for the record.")]
Endpoint = Annotated[str | None, typer.Option(help="Only of this endpoint.")]
All = Annotated[bool, typer.Option("--all", help="Also those that have ended.")]
Limit = Annotated[int, typer.Option(help="How many.", min=1, max=1000)]


class DeedOption(StrEnum):
    """What can be done about an alert."""

    ROLLBACK = "rollback"
    PAUSE = "pause"
    RETRAIN = "retrain"
    FALLBACK = "fallback"


def list_alerts(
    *,
    endpoint: Endpoint = None,
    everything: All = False,
    limit: Limit = 100,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List alerts: the severest first, since when, the numbers, and what to do."""
    from shipway.cli.alerts import show_alerts
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.alerts(endpoint=endpoint, is_open=not everything, limit=limit)
    return show_json(found) if as_json else show_alerts(found)


def show(
    alert: AlertId, *, server: Server = None, state_dir: StateDir = None, as_json: Json = False
) -> None:
    """Show one alert: its numbers, its runbook, what happened, and who was told."""
    from shipway.cli.alerts import show_story
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.alert(alert)
    return show_json(found) if as_json else show_story(found)


def ack(
    alert: AlertId,
    *,
    reason: Reason = "",
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Take an alert on: it escalates no further."""
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.acknowledge_alert(alert, reason=reason)
    if as_json:
        return show_json(found)
    return show_note(f"{found.rule} is yours. Next: {found.next_step or 'see its runbook'}.")


def resolve(
    alert: AlertId,
    *,
    reason: Reason = "",
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """End an alert; it comes back with the next evidence."""
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.resolve_alert(alert, reason=reason)
    if as_json:
        return show_json(found)
    return show_note(f"Alert `{found.id}` has ended. It comes back with the next evidence.")


def act(
    alert: AlertId,
    *,
    do: Annotated[
        DeedOption | None,
        typer.Option("--do", help="What; the first action declared for it when left out."),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Do something about an alert: roll back, pause, fall back, or ask for a new model."""
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        done = client.act_on_alert(
            alert, None if do is None else do.value, reason=reason, dry_run=dry_run
        )
    if as_json:
        return show_json({"done": done, "dry_run": dry_run})
    return typer.echo(f"Would be done: {done}." if dry_run else f"Done: {done}.")


def silence(
    endpoint: EndpointName,
    *,
    for_: Annotated[str, typer.Option("--for", help="How long, such as `2h` or `3d`.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    rule: Annotated[str, typer.Option(help="Only alerts of this rule; `drift*` for several.")] = (
        "*"
    ),
    subject: Annotated[str, typer.Option(help="Only alerts about this.")] = "*",
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Let nobody be told of an endpoint's alerts for a while; they fire and resolve as ever."""
    from shipway.cli.access import seconds_of
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        made = client.silence(
            endpoint, rule=rule, subject=subject, for_s=seconds_of(for_), reason=reason
        )
    if as_json:
        return show_json(made)
    show_note(f"Silent until {made.until:%Y-%m-%d %H:%M} UTC.")
    return show_note(f"End it with `shipway alerts unsilence {made.id}`.")


def silences(*, server: Server = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """List the silences that have not ended."""
    from shipway.cli.alerts import show_silences
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.silences()
    return show_json(found) if as_json else show_silences(found)


def unsilence(
    silence_id: Annotated[str, typer.Argument(metavar="SILENCE", help="Its id.")],
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """End a silence now."""
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        ended = client.end_silence(silence_id)
    return show_json(ended) if as_json else show_note(f"`{ended.id}` has ended.")


def rules(
    endpoint: EndpointName,
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List the alert rules of an endpoint, who is told, and what is done."""
    from shipway.cli.alerts import show_rules
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.alert_rules(endpoint)
    return show_json(found) if as_json else show_rules(found)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line, as `shipway alerts …`; alone it lists the open ones."""
    group = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

    @group.callback()
    def alone(
        context: typer.Context,
        server: Server = None,
        state_dir: StateDir = None,
        as_json: Json = False,
    ) -> None:
        if context.invoked_subcommand is None:
            list_alerts(server=server, state_dir=state_dir, as_json=as_json)

    group.command("list")(list_alerts)
    for command in (show, ack, resolve, act, silence, silences, unsilence, rules):
        group.command()(command)
    channel_commands.add_to(group)
    app.add_typer(group, name="alerts", help="See what is wrong, and do something about it.")
