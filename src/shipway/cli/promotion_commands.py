"""Commands that let versions into environments: `promote`, `approve`, `reject`, `promotions`."""

from __future__ import annotations

from typing import Annotated

import typer

from shipway.cli.options import DryRun, Json, Server, StateDir

Version = Annotated[str, typer.Argument(help="The version, such as `churn:3`.")]
To = Annotated[str, typer.Option("--to", help="The environment, such as `production`.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit record.")]


def promote(
    version: Version,
    *,
    to: To,
    reason: Reason = "",
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Let a version into an environment once its policy is met, and move the alias of that name."""
    from shipway.cli.output import show_json
    from shipway.cli.promotions import show_promoted
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        standing = client.promote(version, to, reason=reason, dry_run=dry_run)
    return show_json(standing) if as_json else show_promoted(standing)


def approve(
    version: Version,
    *,
    to: To,
    reason: Reason = "",
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Say that exactly these bytes may enter an environment."""
    from shipway.cli.output import show_json
    from shipway.cli.promotions import show_reviewed
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        standing = client.approve(version, to, reason=reason)
    return show_json(standing) if as_json else show_reviewed(standing)


def reject(
    version: Version,
    *,
    to: To,
    reason: Reason = "",
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Say that exactly these bytes must not enter an environment, until you approve them."""
    from shipway.cli.output import show_json
    from shipway.cli.promotions import show_reviewed
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        standing = client.reject(version, to, reason=reason)
    return show_json(standing) if as_json else show_reviewed(standing)


def promotions(
    version: Version,
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show where a version stands: what is met, what is missing, who said what."""
    from shipway.cli.output import show_json
    from shipway.cli.promotions import show_standings
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.promotions(version)
    return show_json(found) if as_json else show_standings(version, found)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (promote, approve, reject, promotions):
        app.command()(command)
