"""Commands about environments' policies: `environment apply`, `get`, `delete`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import DryRun, Json, Server, StateDir


def apply(
    *,
    file: Annotated[
        Path,
        typer.Option("--file", "-f", help="YAML with one or more policies; `-` reads stdin."),
    ],
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Make environments' policies what a YAML file says they are."""
    from shipway.cli.output import show_json
    from shipway.cli.promotions import show_policy_change
    from shipway.cli.sessions import client_of
    from shipway.cli.specs import policies_in

    policies = policies_in(file)
    with client_of(server, state_dir) as client:
        changes = [client.apply_policy(policy, dry_run=dry_run) for policy in policies]
    if as_json:
        return show_json(changes)
    for change in changes:
        show_policy_change(change)
    return None


def get(
    name: Annotated[
        str | None, typer.Argument(help="The environment; all with a policy when left out.")
    ] = None,
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show an environment's policy, or list all."""
    from shipway.cli.output import show_json
    from shipway.cli.promotions import show_policies, show_policy
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        if name is None:
            found = client.policies()
            return show_json(found) if as_json else show_policies(found)
        declared = client.policy(name)
    return show_json(declared) if as_json else show_policy(declared)


def delete(
    name: Annotated[str, typer.Argument(help="The environment.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Forget an environment's policy: every version may enter it."""
    from shipway.cli.changes import confirmed
    from shipway.cli.output import show_json
    from shipway.cli.promotions import show_policy_change
    from shipway.cli.sessions import client_of

    if not (dry_run or yes or confirmed(f"Let every version into `{name}`?")):
        raise typer.Exit(1)
    with client_of(server, state_dir) as client:
        change = client.delete_policy(name, dry_run=dry_run)
    return show_json(change) if as_json else show_policy_change(change)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line, as `shipway environment …`."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for command in (apply, get, delete):
        group.command()(command)
    app.add_typer(group, name="environment", help="What an environment asks of its versions.")
