"""Commands of a certificate authority of one's own: `ca init`, `ca issue`, `ca list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import Json, StateDir


def init(*, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Make a certificate authority in the state directory."""
    from shipway.cli.authority import create_here
    from shipway.cli.output import show_json

    made = create_here(state_dir)
    if as_json:
        return show_json({"ca": str(made)})
    typer.echo(f"The CA is {made}; its key beside it is what makes certificates: keep it safe.")
    typer.echo("Next: `shipway ca issue server --role gateway`, then `shipway up`.")
    return None


def issue(
    name: Annotated[
        str,
        typer.Argument(
            help="Its owner. `server` is what the servers of the state directory show, `client` what its"
            " command line shows."
        ),
    ],
    *,
    role: Annotated[str, typer.Option(help="What the owner is: `gateway`, `control` or `client`.")],
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host name or address of a server; repeatable. This machine's when left out."
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="How long it is valid.", min=1, max=825)] = 90,
    out: Annotated[
        Path | None,
        typer.Option(help="Make a whole `tls` directory for another machine's state directory."),
    ] = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Issue a certificate, or renew one: running servers take it without a restart."""
    from shipway.cli.authority import issue_here
    from shipway.cli.output import show_json

    made = issue_here(state_dir, name, role=role, hosts=host or [], days=days, out=out)
    if as_json:
        return show_json(made)
    typer.echo(f"{made.identity}, valid until {made.expires_at:%Y-%m-%d %H:%M} UTC")
    typer.echo(f"  certificate  {made.cert}")
    typer.echo(f"  key          {made.key}")
    if made.hosts:
        typer.echo(f"  hosts        {', '.join(made.hosts)}")
    return None


def list_issued(*, state_dir: StateDir = None, as_json: Json = False) -> None:
    """List the certificates that were issued here, and when they expire."""
    from shipway.cli.authority import issued_here
    from shipway.cli.output import show_json, show_table

    found = issued_here(state_dir)
    if as_json:
        return show_json(found)
    rows = [
        (one.name, one.role, one.hosts, f"{one.expires_at:%Y-%m-%d %H:%M}", one.serial)
        for one in found
    ]
    return show_table(
        ["name", "role", "hosts", "expires", "serial"], rows, empty="Nothing was issued here."
    )


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line, as `shipway ca …`."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command()(init)
    group.command()(issue)
    group.command("list")(list_issued)
    app.add_typer(group, name="ca", help="Certificates of one's own, for TLS.")
