"""`backup` and `restore`."""

from __future__ import annotations

from typing import Annotated

import typer

from shipway.cli.options import Json, StateDir


def backup(
    target: Annotated[
        str,
        typer.Argument(
            help="A file, a directory (the time is the name then), or `s3://bucket/name.tar`."
        ),
    ],
    *,
    state_dir: StateDir = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Leave out the keys and certificates.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the backup that is there; make none.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Back up registry, specs, audit record, bundles and keys, while the server runs."""
    from shipway.cli.backups import back_up, check, show_backup
    from shipway.cli.output import show_json

    if verify:
        view, heading = check(target), "Whole:"
    else:
        view = back_up(target, state_dir=state_dir, with_keys=not without_keys)
        heading = "Written and read back:"
    if as_json:
        show_json(view)
    else:
        show_backup(view, heading)


def restore(
    source: Annotated[str, typer.Argument(help="A backup: a file, or `s3://bucket/name.tar`.")],
    *,
    state_dir: StateDir = None,
    database_url: Annotated[
        str | None, typer.Option(help="An empty PostgreSQL database; SQLite when left out.")
    ] = None,
    artifacts_url: Annotated[
        str | None, typer.Option(help="Where the bundles go; the state directory when left out.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the backup and the target; change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty directory, or an empty database."""
    from shipway.cli.backups import restore as restored
    from shipway.cli.backups import show_backup
    from shipway.cli.output import show_json

    view = restored(
        source,
        dry_run=dry_run,
        state_dir=state_dir,
        database_url=database_url,
        artifacts_url=artifacts_url,
    )
    if as_json:
        show_json(view)
    else:
        show_backup(
            view, "Would be restored:" if dry_run else "Restored, counts and digests equal:"
        )


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (backup, restore):
        app.command()(command)
