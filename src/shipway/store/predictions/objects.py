"""The log's files as objects of the artifact store, and near the readers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import obstore
from obstore.store import ObjectStore

from shipway.core.errors import InvalidRequest
from shipway.store.objects.faults import translated_faults
from shipway.store.staging import Staging

ROOT = "predictions"
CACHE_BYTES = 8 * 1024**3
"""So much of a remote store's log is kept near at hand; nothing reads more at once."""


class Stored(NamedTuple):
    """An object of the log, its size, and when it was written."""

    path: str
    size_bytes: int
    written_at: datetime


class LogObjects:
    """The log's objects. Thread-safe; all methods block, and raise StoreUnavailable."""

    def __init__(self, store: ObjectStore, directory: Path | None, location: str) -> None:
        self._store = store
        self._directory = directory
        self._location = location

    def put(self, path: str, source: Path) -> None:
        """Stores a file under that name. Idempotent; a reader sees all of it or nothing."""
        with translated_faults(self._location):
            obstore.put(self._store, path, source)
            if self._directory is not None:
                _sync(self._directory / path)

    def delete(self, path: str) -> None:
        """Removes an object; nothing when there is none."""
        with suppress(FileNotFoundError), translated_faults(self._location):
            obstore.delete(self._store, path)

    def all(self) -> Iterator[Stored]:
        """Every object of the log."""
        with translated_faults(self._location):
            for page in obstore.list(self._store, prefix=ROOT):
                for item in page:
                    yield Stored(item["path"], item["size"], item["last_modified"])

    @contextmanager
    def near(self, paths: Sequence[tuple[str, int]], cache_dir: Path) -> Iterator[dict[str, Path]]:
        """Files with these objects (each with its size), by path, for as long as the block lasts.

        Those of a local store are its own; of others there are copies in a cache of bounded size.
        What is not stored any more is left out.

        Raises:
            InvalidRequest: together they are larger than the cache.
        """
        if self._directory is not None:
            places = {path: self._directory / path for path, _ in paths}
            yield {path: place for path, place in places.items() if place.is_file()}
            return
        if sum(size for _, size in paths) > CACHE_BYTES:
            raise InvalidRequest(
                f"That is more than {CACHE_BYTES // 1024**3} GiB of the prediction log at once.",
                next_step="Ask for a shorter time or one version: `--since`, `--until`, `--version`.",
            )
        # Links of our own: what others push out of the cache stays until the block ends.
        with Staging(cache_dir / "open").new() as links:
            linked = {path: self._linked(path, cache_dir, links) for path, _ in paths}
            _bound(cache_dir / "files")
            yield {path: link for path, link in linked.items() if link is not None}

    def _linked(self, path: str, cache_dir: Path, links: Path) -> Path | None:
        name = f"{sha256(path.encode()).hexdigest()}.parquet"
        kept, link = cache_dir / "files" / name, links / name
        with translated_faults(self._location):
            try:
                os.link(kept, link)
            except FileNotFoundError:
                return self._fetched(path, kept, link)
            # Pushed out since: the link still holds it.
            with suppress(FileNotFoundError):
                os.utime(kept)
        return link

    def _fetched(self, path: str, kept: Path, link: Path) -> Path | None:
        try:
            result = obstore.get(self._store, path)
        except FileNotFoundError:
            return None
        with link.open("wb") as stream:
            for chunk in result.stream():
                stream.write(chunk)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(link, kept)
        return link


def _bound(files: Path) -> None:
    """Lets go what was used longest ago, until the rest fits."""
    found = sorted(
        (
            (stat.st_mtime, path, stat.st_size)
            for path in files.glob("*.parquet")
            if (stat := _stat(path))
        ),
        reverse=True,
    )
    left = CACHE_BYTES
    for _, path, size in found:
        left -= size
        if left < 0:
            path.unlink(missing_ok=True)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _sync(path: Path) -> None:
    # A row of the catalogue must not outlive its file when the power fails.
    for part in (path, path.parent):
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
