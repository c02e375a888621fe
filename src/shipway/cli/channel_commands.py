"""Commands about channels: `alerts channels add`, `list`, `test`, `remove`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import DryRun, Json, Server, StateDir

ChannelName = Annotated[
    str, typer.Argument(help="The channel's name; `cards.ops` belongs to project `cards`.")
]


class SeverityOption(StrEnum):
    """How severe alerts must be."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


def add(
    name: ChannelName,
    url: Annotated[
        str,
        typer.Argument(
            help="`https://…` for a signed webhook, a URL of Apprise (`slack://…`, `mailto://…`),"
            " `command://NAME` for a program in the state directory's `commands`, or where it is: `env:NAME`, `file:/path`; `-` reads it from stdin.",
        ),
    ],
    *,
    default: Annotated[
        bool, typer.Option("--default", help="Told of endpoints that name no channel.")
    ] = False,
    everywhere: Annotated[
        bool,
        typer.Option("--everywhere", help="Told of all projects' endpoints, and of the server."),
    ] = False,
    at_least: Annotated[
        SeverityOption, typer.Option(help="As a default, only for alerts so severe.")
    ] = SeverityOption.WARNING,
    after: Annotated[
        str, typer.Option(help="As a default, only once nobody acknowledged for so long: `15m`.")
    ] = "0s",
    template: Annotated[
        Path | None,
        typer.Option(help="JSON file: the body of the webhook; `{endpoint}` is filled in."),
    ] = None,
    token_from: Annotated[
        str | None, typer.Option(help="Where a bearer token is: `env:NAME` or `file:/path`.")
    ] = None,
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Add a channel that is told of alerts; its URL is not shown again."""
    from shipway.cli.alerts import channel_fields, show_new_channel
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    fields = channel_fields(
        url, after=after, template=template, token_from=token_from, at_least=at_least.value
    )
    fields |= {"is_default": default, "everywhere": everywhere, "dry_run": dry_run}
    with client_of(server, state_dir) as client:
        made = client.add_channel(name, **fields)
    return show_json(made) if as_json else show_new_channel(made, dry_run=dry_run)


def list_channels(
    *, server: Server = None, state_dir: StateDir = None, as_json: Json = False
) -> None:
    """List the channels that you administer, and messages that did not arrive."""
    from shipway.cli.alerts import show_channels
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.channels()
    return show_json(found) if as_json else show_channels(found)


def try_out(
    name: ChannelName, *, server: Server = None, state_dir: StateDir = None, as_json: Json = False
) -> None:
    """Send a channel a message that says that nothing is wrong."""
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.test_channel(name)
    return show_json(found) if as_json else show_note(f"`{name}` took the message.")


def remove(
    name: ChannelName, *, server: Server = None, state_dir: StateDir = None, as_json: Json = False
) -> None:
    """Forget a channel; messages that wait for it are given up."""
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        gone = client.remove_channel(name)
    return show_json(gone) if as_json else show_note(f"`{name}` is told of nothing any more.")


def add_to(app: typer.Typer) -> None:
    """Adds these commands to `shipway alerts`, as `channels …`."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_channels)
    group.command("test")(try_out)
    for command in (add, remove):
        group.command()(command)
    app.add_typer(group, name="channels", help="Who is told of alerts.")
