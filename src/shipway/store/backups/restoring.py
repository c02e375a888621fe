"""Puts a backup into an empty place: all of it, or nothing that a server would take for state."""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc as sql

from shipway.core.audit import BrokenLink
from shipway.core.backups import BackupManifest, differing_tables, first_loose_link
from shipway.core.bundles import MANIFEST_NAME
from shipway.core.errors import BundleCorrupt, InvalidArtifact, StateUnusable
from shipway.core.registry import check_paths, is_inside
from shipway.engines.bundle import read_manifest, verified_manifest
from shipway.store.backups.archive import Member, corrupt, members, sealed_manifest
from shipway.store.backups.places import BackupPlace
from shipway.store.backups.rows import insertable, values_of
from shipway.store.backups.snapshot import Snapshot
from shipway.store.backups.writing import OnProgress
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql import migration
from shipway.store.sql.audit import AuditRows
from shipway.store.sql.engine import WRITES, create_engine
from shipway.store.sql.faults import translated_faults
from shipway.store.staging import Staging

_BATCH = 100
_CHUNK_BYTES = 1024 * 1024


class Target(NamedTuple):
    """Where a backup goes to."""

    database_url: str
    artifacts: ArtifactStore
    state_dir: Path


def checked_backup(place: BackupPlace, *, on_progress: OnProgress) -> BackupManifest:
    """The manifest of a backup that is whole, and whose schema this release knows; reads all of it.

    Raises:
        BackupCorrupt: it is no backup, was cut off, or a byte has changed.
        SchemaTooNew: a newer release wrote it.
        StoreUnavailable: it cannot be read.
    """
    on_progress("checking", 0, 0)
    manifest = sealed_manifest(place.read(), place=place.name)
    migration.check_known(manifest.schema)
    return manifest


def restore_backup(
    place: BackupPlace, target: Target, manifest: BackupManifest, *, on_progress: OnProgress
) -> BrokenLink | None:
    """Restores a backup that was checked, into a place that is vacant. Blocks.

    The rows come in one transaction, which ends last: killed before that, the database is as empty as
    it was, and a second restore begins again. Ends only when rows, bundles and the audit chain's head
    are those of the backup, and the schema is this release's.

    Returns:
        Where the audit chain is broken, which it was when the backup was made; None when it holds.

    Raises:
        BackupCorrupt: what is in it does not fit together.
        StoreUnavailable, StateUnusable: something cannot be written.
    """
    engine = create_engine(target.database_url)
    try:
        with (
            translated_faults(),
            engine.connect().execution_options(**WRITES) as connection,
            connection.begin(),
        ):
            return _Restore(place, target, manifest, connection, on_progress).run()
    finally:
        engine.dispose()


class _Restore:
    def __init__(
        self,
        place: BackupPlace,
        target: Target,
        manifest: BackupManifest,
        connection: sa.Connection,
        on_progress: OnProgress,
    ) -> None:
        self._place = place
        self._target = target
        self._manifest = manifest
        self._connection = connection
        self._on_progress = on_progress
        self._staging = Staging(target.state_dir / "staging")
        self._bundles = 0

    def run(self) -> BrokenLink | None:
        self._make_schema()
        with closing(members(self._place.read(), place=self._place.name)) as found:
            for group, inside in groupby(found, _group_of):
                self._restore_group(group, inside)
        self._check()
        _reset_sequences(self._connection)
        migration.upgrade_to(self._connection, "head")
        return first_loose_link(AuditRows(self._connection).chain())

    def _make_schema(self) -> None:
        """The schema as it was when the backup was made, without the rows that it begins with."""
        if self._connection.dialect.name == "postgresql":
            # While large bundles are copied the transaction has nothing to do.
            self._connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        migration.upgrade_to(self._connection, self._manifest.schema)
        for table in reversed(Snapshot(self._connection).tables):
            self._connection.execute(sa.delete(table))

    def _restore_group(self, group: str, inside: Iterator[Member]) -> None:
        kind, _, name = group.partition("/")
        if kind == "tables":
            self._restore_table(name, inside)
        elif kind == "bundles":
            self._restore_bundle(name, inside)
        elif kind == "files":
            for member in inside:
                self._restore_file(member)

    def _restore_table(self, name: str, parts: Iterator[Member]) -> None:
        facts = next((table for table in self._manifest.tables if table.name == name), None)
        if facts is None:
            raise self._corrupt(f"its manifest does not name table `{name}`")
        table = insertable(facts, self._connection.dialect.name)
        done = 0
        with self._fitting(name):
            rows = values_of(_lines_of(parts), facts.columns)
            while batch := list(islice(rows, _BATCH)):
                self._connection.execute(sa.insert(table), batch)
                done += len(batch)
                self._on_progress(f"rows of {name}", done, facts.rows)

    @contextmanager
    def _fitting(self, table: str) -> Iterator[None]:
        try:
            yield
        except (sql.IntegrityError, sql.DataError, sql.ProgrammingError) as exc:
            reason = str(exc.orig).splitlines()[0]
            raise self._corrupt(f"a row of table `{table}` does not fit: {reason}") from exc
        except (msgspec.MsgspecError, ValueError, EOFError, OSError, zlib.error) as exc:
            raise self._corrupt(f"the rows of table `{table}` cannot be read") from exc

    def _restore_bundle(self, name: str, objects: Iterator[Member]) -> None:
        self._on_progress("bundles", self._bundles, self._manifest.bundles.count)
        digest = f"sha256:{name}"
        with self._staging.new() as directory:
            extras = self._extracted(directory, objects)
            try:
                manifest = verified_manifest(directory, digest)
            except BundleCorrupt as exc:
                raise self._corrupt(f"bundle `{digest}` in it is damaged: {exc.message}") from exc
            self._target.artifacts.put_bundle(directory, manifest)
            for path in extras:
                self._target.artifacts.put_object(digest, path, directory / path)
        self._bundles += 1

    def _extracted(self, directory: Path, objects: Iterator[Member]) -> list[str]:
        """Writes a bundle's objects to a directory; gives those that its manifest does not name."""
        extras, files = [], {MANIFEST_NAME}
        for member in objects:
            path = member.name.split("/", 2)[2]
            if not is_inside(path):
                raise self._corrupt(f"it names the file `{member.name}`")
            with _written(directory / path) as stream:
                shutil.copyfileobj(member.stream, stream)
            if path == MANIFEST_NAME:
                files |= self._paths(directory)
            elif path not in files:
                extras.append(path)
        return extras

    def _paths(self, directory: Path) -> set[str]:
        try:
            manifest = read_manifest(directory)
            check_paths(manifest)
        except (BundleCorrupt, InvalidArtifact) as exc:
            raise self._corrupt(f"a bundle's manifest in it is not sound: {exc.message}") from exc
        return {file.path for file in manifest.content.files}

    def _restore_file(self, member: Member) -> None:
        name = member.name.removeprefix("files/")
        facts = next((file for file in self._manifest.files if file.path == name), None)
        if facts is None or not is_inside(name):
            raise self._corrupt(f"it names the file `{member.name}`")
        path = self._target.state_dir / name
        draft, digest = path.with_name(f".{path.name}.draft"), sha256()
        with _written(draft, mode=facts.mode) as stream:
            while chunk := member.stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                stream.write(chunk)
        if digest.hexdigest() != facts.sha256:
            draft.unlink()
            raise self._corrupt(f"the file `{name}` in it is not the one of its manifest")
        draft.replace(path)

    def _check(self) -> None:
        """Reads back what the database has now."""
        self._on_progress("reading back", 0, 0)
        seen = Snapshot(self._connection)
        different = differing_tables(self._manifest, seen.facts())
        if different:
            raise self._corrupt(f"the rows of table `{different[0]}` came out different")
        if seen.audit_head() != self._manifest.audit:
            raise self._corrupt("its audit record does not end as its manifest says")
        if self._bundles != self._manifest.bundles.count:
            raise self._corrupt("a bundle is missing in it")

    def _corrupt(self, reason: str) -> Exception:
        return corrupt(self._place.name, reason)


def _group_of(member: Member) -> str:
    """`tables/NAME`, `bundles/HEX`, `files` or the member's own name."""
    parts = member.name.split("/")
    return "/".join(parts[:2]) if parts[0] in {"tables", "bundles"} else parts[0]


def _lines_of(parts: Iterable[Member]) -> Iterator[bytes]:
    for part in parts:
        with gzip.GzipFile(fileobj=part.stream) as lines:
            yield from lines


@contextmanager
def _written(path: Path, *, mode: int = 0o600) -> Iterator[Any]:
    """A new file, on the disk when the block ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as exc:
        raise StateUnusable(
            f"`{path}` cannot be written: {exc.strerror or exc}.",
            next_step="Make the directory writable, or free some space, then restore again.",
            directory=str(path.parent),
        ) from exc


def _reset_sequences(connection: sa.Connection) -> None:
    """Lets PostgreSQL's own numbers go on after the highest that came with the rows."""
    if connection.dialect.name != "postgresql":
        return
    for table in Snapshot(connection).tables:
        for column in table.columns:
            asked = {"table": f'"{table.name}"', "column": column.name}
            query = sa.text("SELECT pg_get_serial_sequence(:table, :column)")
            sequence = connection.scalar(query, asked)
            if sequence is not None:
                highest = connection.scalar(sa.select(sa.func.max(column))) or 0
                connection.execute(
                    sa.text("SELECT setval(:sequence, :next, false)"),
                    {"sequence": sequence, "next": highest + 1},
                )
