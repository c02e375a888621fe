"""Where a backup is written to and read from: a file, or an object of an object store."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from shipway.core.errors import InvalidSpec, StoreUnavailable, TargetTaken
from shipway.store.objects.locations import opened

_CHUNK_BYTES = 1024 * 1024
_PART_BYTES = 32 * 1024 * 1024
"""S3 takes 10,000 parts: backups of up to 320 GB, with two parts in memory."""

Check = Callable[[Iterable[bytes]], None]


class BackupPlace(Protocol):
    """One file's place. Everything raises StoreUnavailable when it cannot be used."""

    name: str

    def require_free(self) -> None:
        """Passes when nothing is there. Raises TargetTaken otherwise."""

    def write(self, chunks: Iterable[bytes], check: Check) -> int:
        """Stores the chunks whole or not at all, and gives their number of bytes.

        What was stored is read back through `check`; when that raises, nothing stays. Raises
        TargetTaken when another was faster.
        """

    def read(self) -> Iterator[bytes]:
        """The bytes, in chunks."""


def place_of(target: str, *, now: datetime, environment: Mapping[str, str]) -> BackupPlace:
    """The place that a path or a URL (`s3://bucket/name.tar`, `file:///path`) means.

    A directory, and a URL that ends with `/`, get a name with the time in it.

    Raises:
        InvalidSpec: it names no file.
        StoreUnavailable: it is a URL of an unknown kind.
    """
    parts = urlsplit(target)
    dated = f"shipway-{now:%Y%m%dT%H%M%SZ}.tar"
    if parts.scheme in {"", "file"} or "://" not in target:
        path = Path(unquote(parts.path) if parts.scheme == "file" else target).absolute()
        is_directory = path.is_dir() or target.endswith("/")
        return _FilePlace(path / dated if is_directory else path)
    directory, _, name = target.rpartition("/")
    if not parts.netloc or not directory.startswith(f"{parts.scheme}://{parts.netloc}"):
        raise InvalidSpec(f"`{target}` names no object.", next_step="Write `s3://bucket/name.tar`.")
    store, _ = opened(directory, environment=environment)
    name = name or dated
    return _ObjectPlace(store, name, f"{directory}/{name}")


class _FilePlace:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def require_free(self) -> None:
        if self._path.exists():
            raise _taken(self.name)

    def write(self, chunks: Iterable[bytes], check: Check) -> int:
        draft = self._draft()
        try:
            size = self._fill(draft, chunks)
            check(_chunks_of(draft))
            self._take_name(draft)
        finally:
            draft.unlink(missing_ok=True)
        return size

    def _draft(self) -> Path:
        """A new file beside the place, for its owner only: a backup holds keys."""
        with _faults(self.name, "written"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                dir=self._path.parent, prefix=f".{self._path.name}.", suffix=".partial"
            )
            os.close(handle)
        return Path(name)

    def _fill(self, draft: Path, chunks: Iterable[bytes]) -> int:
        with draft.open("wb") as stream:
            for chunk in chunks:
                with _faults(self.name, "written"):
                    stream.write(chunk)
            with _faults(self.name, "written"):
                stream.flush()
                os.fsync(stream.fileno())
            return stream.tell()

    def _take_name(self, draft: Path) -> None:
        with _faults(self.name, "written"):
            try:
                os.link(draft, self._path)
            except FileExistsError as exc:
                raise _taken(self.name) from exc
            except OSError:
                # A file system without hard links. A rename could replace, but never mix, backups.
                draft.rename(self._path)
            _sync_directory(self._path.parent)

    def read(self) -> Iterator[bytes]:
        with _faults(self.name, "read"):
            yield from _chunks_of(self._path)


class _ObjectPlace:
    def __init__(self, store: ObjectStore, key: str, name: str) -> None:
        self._store = store
        self._key = key
        self.name = name

    def require_free(self) -> None:
        with _faults(self.name, "written"), contextlib.suppress(FileNotFoundError):
            obstore.head(self._store, self._key)
            raise _taken(self.name)

    def write(self, chunks: Iterable[bytes], check: Check) -> int:
        size = 0
        # The object appears when its last part is there; an error in between leaves none.
        with (
            _faults(self.name, "written"),
            obstore.open_writer(
                self._store, self._key, buffer_size=_PART_BYTES, max_concurrency=2
            ) as stream,
        ):
            for chunk in chunks:
                size += stream.write(chunk)
        try:
            check(self.read())
        except BaseException:
            with _faults(self.name, "removed"):
                obstore.delete(self._store, self._key)
            raise
        return size

    def read(self) -> Iterator[bytes]:
        with _faults(self.name, "read"):
            stream = obstore.get(self._store, self._key).stream(min_chunk_size=_CHUNK_BYTES)
            yield from map(bytes, stream)


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _taken(name: str) -> TargetTaken:
    return TargetTaken(
        f"`{name}` is there already, and is not overwritten.",
        next_step="Choose another name, or name a directory: the time is the file's name then.",
        target=name,
    )


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def _faults(name: str, verb: str) -> Iterator[None]:
    """Turns what the file system or the object store raises inside the block into our error."""
    try:
        yield
    except OSError as exc:
        step = "Free some space there" if exc.errno in _FULL else "Check the path and its rights"
        raise StoreUnavailable(
            f"The backup `{name}` cannot be {verb}: {exc.strerror or exc}.",
            next_step=f"{step}, then try again.",
        ) from exc
    except BaseError as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)[:300].rstrip(".")
        raise StoreUnavailable(
            f"The backup `{name}` cannot be {verb}: {reason}.",
            next_step="Check the URL, its credentials and that the store answers, then try again.",
        ) from exc
