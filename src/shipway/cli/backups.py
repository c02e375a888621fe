"""Backing up and restoring the state that the settings name."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import typer

from shipway.cli.output import progress
from shipway.core.backups import BackupManifest
from shipway.core.errors import InvalidSpec
from shipway.settings import Settings, provider_variables, read_settings
from shipway.store.backups.places import BackupPlace, place_of
from shipway.store.backups.restoring import Target, checked_backup, restore_backup
from shipway.store.backups.snapshot import existing_engine
from shipway.store.backups.vacancy import require_vacant
from shipway.store.backups.writing import Source, write_backup
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import sqlite_url
from shipway.supervisor.records import exclusive


class BackupView(msgspec.Struct, frozen=True, kw_only=True):
    """A backup, as the commands show it. `audit_fault` says where the restored chain is broken."""

    place: str
    created_at: datetime
    release: str
    schema: str
    tables: dict[str, int]
    bundles: int
    bundle_bytes: int
    audit_events: int
    audit_head: str
    files: tuple[str, ...]
    size_bytes: int | None = None
    audit_fault: str = ""


def back_up(target: str, *, state_dir: Path | None, with_keys: bool) -> BackupView:
    """Writes a backup of the state that the settings name.

    Raises:
        ShipwayError: it could not be written whole; what is at the target is as it was.
    """
    settings = read_settings(state_dir=state_dir)
    engine = existing_engine(_database_url(settings))
    try:
        source = Source(engine, _artifacts(settings), settings.state_dir.absolute())
        with progress("Backup") as on_progress:
            made = write_backup(
                source, _place(target), with_keys=with_keys, now=_now(), on_progress=on_progress
            )
    finally:
        engine.dispose()
    return msgspec.structs.replace(_view(made.place, made.manifest), size_bytes=made.size_bytes)


def check(source: str) -> BackupView:
    """A backup, once all of it was read and found as it was written.

    Raises:
        ShipwayError: it is damaged, a newer release's, or cannot be read.
    """
    place = _place(source)
    with progress("Check") as on_progress:
        return _view(place.name, checked_backup(place, on_progress=on_progress))


def restore(source: str, *, dry_run: bool, **given: Any) -> BackupView:
    """Restores a backup to where the settings, with those `given` in front, say; checks it first.

    Raises:
        ShipwayError: it was not restored, and the database is as empty as it was.
    """
    settings, fault = read_settings(**given), ""
    place = _place(source)
    with progress("Restore") as on_progress:
        manifest = checked_backup(place, on_progress=on_progress)
        database_url, state_dir = _database_url(settings), settings.state_dir.absolute()
        require_vacant(manifest, database_url, state_dir)
        if not dry_run:
            with ExitStack() as held:
                for role in ("up", "control"):
                    held.enter_context(exclusive(state_dir, role))
                target = Target(database_url, _artifacts(settings), state_dir)
                broken = restore_backup(place, target, manifest, on_progress=on_progress)
                fault = "" if broken is None else broken.reason
    return msgspec.structs.replace(_view(place.name, manifest), audit_fault=fault)


def _place(target: str) -> BackupPlace:
    if not target:
        raise InvalidSpec("No file is named.", next_step="Name one, such as `shipway.tar`.")
    return place_of(target, now=_now(), environment=provider_variables())


def _database_url(settings: Settings) -> str:
    return settings.database_url or sqlite_url(settings.state_dir)


def _artifacts(settings: Settings) -> ArtifactStore:
    url = settings.artifacts_url or str(settings.state_dir.absolute() / "artifacts")
    return ArtifactStore(url, environment=provider_variables())


def _now() -> datetime:
    # The command line owns its clock.
    return datetime.now(UTC)  # noqa: TID251


def _view(place: str, manifest: BackupManifest) -> BackupView:
    return BackupView(
        place=place,
        created_at=manifest.created_at,
        release=manifest.release,
        schema=manifest.schema,
        tables={table.name: table.rows for table in manifest.tables},
        bundles=manifest.bundles.count,
        bundle_bytes=manifest.bundles.size_bytes,
        audit_events=manifest.audit.sequence,
        audit_head=manifest.audit.hash,
        files=tuple(file.path for file in manifest.files),
    )


def show_backup(view: BackupView, heading: str) -> None:
    """Says what a backup holds."""
    typer.echo(f"{heading} {view.place}")
    typer.echo(f"  made     {view.created_at:%Y-%m-%d %H:%M:%S} UTC, schema {view.schema}")
    typer.echo(f"  rows     {sum(view.tables.values())} in {len(view.tables)} tables")
    typer.echo(f"  bundles  {view.bundles}, {view.bundle_bytes / 1e6:.1f} MB")
    typer.echo(f"  audit    {view.audit_events} events, the newest {view.audit_head[:12]}…")
    if view.files:
        typer.echo(f"  files    {', '.join(view.files)}")
        typer.echo("Keep it as secret as the keys in it.")
    if view.audit_fault:
        typer.echo(
            f"The audit chain is broken, as it was when the backup was made: {view.audit_fault}."
        )
