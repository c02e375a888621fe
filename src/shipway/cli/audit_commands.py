"""Commands about the audit record: `audit list`, `show`, `verify`, `export`, `prune`, `rotate-key`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shipway.cli.options import TIME_FORMATS, DryRun, Json, Server, StateDir

if TYPE_CHECKING:
    from shipway.core.verification import ChainVerdict


class ExportFormat(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    CSV = "csv"


def list_events(
    *,
    subject: Annotated[
        str | None, typer.Option(help="A name; of a model, also its versions and aliases.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Who did it.")] = None,
    action: Annotated[
        str | None, typer.Option(help="An action such as `alias.set`, or its noun.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=TIME_FORMATS, help="From then on; UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=TIME_FORMATS, help="Before then; UTC.")
    ] = None,
    before: Annotated[
        int | None, typer.Option(min=1, help="Lower numbers than that: the next page.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List what was changed or refused, by whom, when, from where and why; newest first."""
    from shipway.cli.audits import show_events
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.audit(
            subject=subject,
            actor=actor,
            action=action,
            since=since,
            until=until,
            before=before,
            limit=limit,
        )
    return show_json(found) if as_json else show_events(found)


def show(
    sequence: Annotated[int, typer.Argument(min=1, help="The event's number.")],
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show one event: what was before, and after."""
    from shipway.cli.audits import show_event
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.audit_event(sequence)
    return show_json(found) if as_json else show_event(found)


def verify(
    *,
    archives: Annotated[
        bool, typer.Option("--archives", help="Also what was archived, back to the first event.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option(help="An export or an archive; needs no server.")
    ] = None,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(help="With `--file`: `audit.pub` of the server. May be repeated."),
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Check that no event was changed, removed, reordered or cut off; ends with 1 when one was."""
    from shipway.cli.audits import show_verdict
    from shipway.cli.messages import Exit
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    if (file is None) != (not public_key):
        raise typer.BadParameter("`--file` and `--public-key` go together.")
    if file is not None:
        verdict = _verdict_of_file(file, public_key or [])
    else:
        with client_of(server, state_dir) as client:
            verdict = client.audit_check(archives=archives)
    if as_json:
        show_json(verdict)
    else:
        show_verdict(verdict)
    if not verdict.holds:
        raise typer.Exit(Exit.OTHER)


def _verdict_of_file(file: Path, public_keys: list[Path]) -> ChainVerdict:
    from shipway.store.exports import verdict_of_file
    from shipway.store.keys import read_public_key

    return verdict_of_file(file, trusted=[read_public_key(path) for path in public_keys])


def export(
    *,
    export_format: Annotated[
        ExportFormat, typer.Option("--format", help="`jsonl` can be verified; `csv` is a table.")
    ] = ExportFormat.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; stdout when left out.")
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
) -> None:
    """Write the whole chain with its signed heads, oldest first."""
    import sys

    from shipway.cli.audits import csv_of, jsonl_of, links_of
    from shipway.cli.sessions import client_of

    written = csv_of if export_format is ExportFormat.CSV else jsonl_of
    with client_of(server, state_dir) as client:
        lines = written(links_of(client))
        if output is None:
            sys.stdout.buffer.writelines(lines)
            return
        from shipway.store.files import write_whole

        write_whole(output, lines, mode=0o600)


def prune(
    *,
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=TIME_FORMATS,
            help="Archive what is older, unless a policy keeps it; what policies let go when left out.",
        ),
    ] = None,
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Move the oldest events into a sealed archive on the server."""
    from shipway.cli.audits import show_pruned
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        done = client.prune_audit(before=before, dry_run=dry_run)
    return show_json(done) if as_json else show_pruned(done)


def rotate_key(*, server: Server = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Replace the key that signs the chain. What the old one signed stays valid."""
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of
    from shipway.core.heads import key_name

    with client_of(server, state_dir) as client:
        change = client.rotate_audit_key()
    if as_json:
        return show_json(change)
    return typer.echo(f"key {key_name(change.before)} replaced by {key_name(change.after)}")


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line, as `shipway audit …`."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_events)
    for command in (show, verify, export, prune):
        group.command()(command)
    group.command("rotate-key")(rotate_key)
    app.add_typer(group, name="audit", help="Who changed what, and proof of it.")
