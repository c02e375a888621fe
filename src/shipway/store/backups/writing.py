"""Makes a backup while others go on working."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from shipway.core.backups import (
    FORMAT,
    AuditHead,
    BackupManifest,
    BundleFacts,
    KeptFile,
    TableFacts,
)
from shipway.core.bundles import MANIFEST_NAME, Manifest
from shipway.core.errors import BundleCorrupt, StateUnusable
from shipway.core.release import VERSION
from shipway.store.backups.archive import MANIFEST, Entry, archived, entry_of, sealed_manifest
from shipway.store.backups.places import BackupPlace
from shipway.store.backups.rows import Count, columns_of
from shipway.store.backups.snapshot import Snapshot, snapshot
from shipway.store.objects.artifacts import ArtifactStore

PART_BYTES = 4 * 1024 * 1024
"""Rows are written in parts of this size, the only thing that is in memory whole."""

SECRETS = ("keys", "tls")
RECORDS = ("audit",)
"""Directories that are kept of a state directory; all else in it is made again by the next server."""

WITNESS = "audit/heads.jsonl"
"""Names signed heads of the audit chain: read before the database, it knows of none that is not there."""

_CHUNK_BYTES = 1024 * 1024

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much (0: unknown)."""


class Source(NamedTuple):
    """What is backed up."""

    engine: sa.Engine
    artifacts: ArtifactStore
    state_dir: Path


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was written, or checked."""

    place: str
    size_bytes: int
    manifest: BackupManifest


def write_backup(
    source: Source, place: BackupPlace, *, with_keys: bool, now: datetime, on_progress: OnProgress
) -> Backup:
    """Writes a backup of one moment, and reads it back before it gets its name. Blocks.

    Several may run at once, beside servers that write.

    Raises:
        TargetTaken: something is at the place already.
        BundleCorrupt: the artifact store does not have a bundle whole (named).
        StoreUnavailable: the database, the artifact store or the place is away or full.
        BackupCorrupt: what was read back is not what was written.
    """
    place.require_free()
    contents = _Contents(source, with_keys=with_keys, now=now, on_progress=on_progress)

    def check(chunks: Iterable[bytes]) -> None:
        on_progress("reading back", 0, 0)
        sealed_manifest(chunks, place=place.name)

    with closing(contents.entries()) as entries, closing(archived(entries)) as chunks:
        size = place.write(chunks, check)
    return Backup(place=place.name, size_bytes=size, manifest=contents.manifest)


class _Contents:
    """The members of one backup, and what they come to."""

    manifest: BackupManifest

    def __init__(
        self, source: Source, *, with_keys: bool, now: datetime, on_progress: OnProgress
    ) -> None:
        self._source = source
        self._with_keys = with_keys
        self._now = now
        self._on_progress = on_progress
        self._schema = ""
        self._audit = AuditHead()
        self._tables: list[TableFacts] = []
        self._bundles = BundleFacts()
        self._files: list[KeptFile] = []

    def entries(self) -> Generator[Entry, None, None]:
        witness = self._source.state_dir / WITNESS
        if witness.is_file():
            yield self._file(witness)
        # The lease comes before the snapshot: nothing that the snapshot names is swept meanwhile.
        with self._source.artifacts.leases.taken() as renew:
            with snapshot(self._source.engine) as seen:
                digests = seen.digests()
                self._schema, self._audit = seen.schema or "", seen.audit_head()
                for table in seen.tables:
                    yield from self._table(seen, table)
            for number, digest in enumerate(digests):
                self._on_progress("bundles", number, len(digests))
                yield from self._bundle(digest)
                renew()
        yield from self._state_files()
        self.manifest = self._manifest()
        yield entry_of(MANIFEST, msgspec.json.encode(self.manifest))

    def _table(self, seen: Snapshot, table: sa.Table) -> Iterator[Entry]:
        count = Count(table.name, columns_of(table))
        for number, part in enumerate(_parts(seen.lines(table, count)), start=1):
            self._on_progress(f"rows of {table.name}", count.rows, 0)
            packed = gzip.compress(part, compresslevel=3, mtime=0)
            yield entry_of(f"tables/{table.name}/{number:06}.jsonl.gz", packed)
        self._tables.append(count.facts)

    def _bundle(self, digest: str) -> Iterator[Entry]:
        artifacts, prefix = self._source.artifacts, f"bundles/{digest.removeprefix('sha256:')}"
        text = b"".join(artifacts.chunks(digest, MANIFEST_NAME))
        files = {file.path: file for file in _checked_manifest(text, digest).content.files}
        yield entry_of(f"{prefix}/{MANIFEST_NAME}", text)
        sizes = artifacts.objects(digest) | {path: file.size_bytes for path, file in files.items()}
        for path in sorted(sizes.keys() - {MANIFEST_NAME}):
            known = files[path].sha256 if path in files else None
            expected = _Expected(digest, path, sizes[path], known)
            chunks = expected.checked(artifacts.chunks(digest, path))
            yield Entry(f"{prefix}/{path}", sizes[path], chunks)
        self._bundles = BundleFacts(
            count=self._bundles.count + 1,
            size_bytes=self._bundles.size_bytes + sum(sizes.values()),
        )

    def _state_files(self) -> Iterator[Entry]:
        """Read after the database: what left it for an archive is in either."""
        state_dir = self._source.state_dir
        for name in (*SECRETS, *RECORDS) if self._with_keys else RECORDS:
            for path in sorted((state_dir / name).rglob("*")):
                if path.is_file() and path != state_dir / WITNESS:
                    yield self._file(path)

    def _file(self, path: Path) -> Entry:
        name = path.relative_to(self._source.state_dir).as_posix()
        with _readable(path):
            stat = path.stat()

        def chunks() -> Iterator[bytes]:
            digest, left = sha256(), stat.st_size
            with _readable(path), path.open("rb") as stream:
                # Some only grow: what comes meanwhile is for the next backup.
                while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                    digest.update(chunk)
                    left -= len(chunk)
                    yield chunk
            if left:
                raise _changed(path)
            kept = KeptFile(path=name, mode=stat.st_mode & 0o777, sha256=digest.hexdigest())
            self._files.append(kept)

        return Entry(f"files/{name}", stat.st_size, chunks())

    def _manifest(self) -> BackupManifest:
        return BackupManifest(
            format=FORMAT,
            created_at=self._now,
            release=VERSION,
            schema=self._schema,
            tables=tuple(self._tables),
            audit=self._audit,
            bundles=self._bundles,
            files=tuple(self._files),
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StateUnusable(
            f"`{path}` cannot be backed up: {exc.strerror}.",
            next_step="Run the backup as the user that runs the server, or with `--without-keys`.",
            directory=str(path.parent),
        ) from exc


def _changed(path: Path) -> StateUnusable:
    return StateUnusable(
        f"`{path}` was cut while it was backed up.",
        next_step="Try again.",
        directory=str(path.parent),
    )


def _parts(lines: Iterable[bytes]) -> Iterator[bytes]:
    part = bytearray()
    for line in lines:
        part += line
        if len(part) >= PART_BYTES:
            yield bytes(part)
            part.clear()
    if part:
        yield bytes(part)


class _Expected(NamedTuple):
    """An object of a bundle; `sha256` is None for what the bundle's manifest does not name."""

    digest: str
    path: str
    size: int
    sha256: str | None

    def checked(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, of which the last is given only when all are what the manifest says."""
        seen, left = sha256(), self.size
        for chunk in chunks:
            left -= len(chunk)
            seen.update(chunk)
            if left <= 0:
                self._require(left, seen.hexdigest())
            yield chunk
        self._require(left, seen.hexdigest())

    def _require(self, left: int, digest: str) -> None:
        if left or self.sha256 not in (None, digest):
            raise _damaged(self.digest, self.path)


def _checked_manifest(text: bytes, digest: str) -> Manifest:
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as exc:
        raise _damaged(digest, MANIFEST_NAME) from exc
    if manifest.content.digest != digest:
        raise _damaged(digest, MANIFEST_NAME)
    return manifest


def _damaged(digest: str, path: str) -> BundleCorrupt:
    return BundleCorrupt(
        f"There is no backup of a damaged bundle: `{path}` of `{digest}` does not match its digest.",
        next_step="Register the model again from its source, which heals it, or delete the version.",
        file=path,
        digest=digest,
    )
