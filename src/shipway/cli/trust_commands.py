"""Commands about whose bytes a version's are: `sign`, `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import Json, Server, StateDir


def sign(
    version: Annotated[str, typer.Argument(help="The version, such as `churn:3`.")],
    *,
    key: Annotated[
        Path, typer.Option(help="Your private key (PEM, Ed25519 or P-256); it stays here.")
    ],
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Sign the bytes of a version with your key."""
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of
    from shipway.cli.trust import show_signatures

    with client_of(server, state_dir) as client:
        trust = client.sign(version, key)
    return show_json(trust) if as_json else show_signatures(trust)


def verify(
    version: Annotated[
        str, typer.Argument(help="The version, such as `churn:3`, or a bundle's directory.")
    ],
    *,
    key: Annotated[
        Path | None, typer.Option(help="The public key (PEM) that must have signed it.")
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Read every byte of a version again, and check whether a key signed them."""
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of
    from shipway.cli.trust import checked_directory, is_bundle, show_report, show_verified

    if is_bundle(version):
        report = checked_directory(Path(version), key)
        return show_json(report) if as_json else show_report(report)
    with client_of(server, state_dir) as client:
        found = client.verify(version, key=key)
        known = client.trust(version)
    return show_json(found) if as_json else show_verified(found, known)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (sign, verify):
        app.command()(command)
