"""A bundle's tar, unpacked as it arrives, within bounds and inside its directory."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

import msgspec

from shipway.core.errors import BodyTooLarge, InvalidRequest, StateUnusable
from shipway.core.registry import is_inside, is_plain_name

_HEADER_BYTES = 256 * 1024
_COPY_BYTES = 1024 * 1024
_SHOWN = 200
_NEXT_STEP = "Upload with `shipway register`, which writes such archives."


class UploadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one uploaded bundle."""

    max_files: int = 10_000
    max_bytes: int = 16 * 1024**3


class ByteSource(Protocol):
    """Where an archive's bytes come from."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end. May block."""
        ...

    def allow(self, size: int) -> None:
        """Permits reading so many bytes more; `read` raises InvalidRequest beyond."""
        ...


class ChunkSource:
    """A byte source over a function that gives the next chunk, and nothing at the end."""

    def __init__(self, next_chunk: Callable[[], bytes]) -> None:
        self._next_chunk = next_chunk
        self._buffer = bytearray()
        self._allowed = 0

    def allow(self, size: int) -> None:
        """Permits reading so many bytes more, whatever was permitted before."""
        self._allowed = size

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end.

        Raises:
            InvalidRequest: more than was allowed is asked for.
        """
        # A hostile archive may declare gigabytes of header, which tarfile would hold in memory.
        self._allowed -= size
        if self._allowed < 0:
            raise _refused("The archive has an oversized header.")
        while len(self._buffer) < size and (chunk := self._next_chunk()):
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def unpack(source: ByteSource, directory: Path, limits: UploadLimits) -> None:
    """Writes the files of an uncompressed tar below the directory.

    Raises:
        InvalidRequest: the tar is damaged or ends early; or a member (named) is a link or device,
            has a path that is absolute, leaves the directory, is there twice or is no plain text.
        BodyTooLarge: it has too many files or bytes.
        StateUnusable: the disk is full or unwritable.
    """
    source.allow(_HEADER_BYTES)
    try:
        # A stream has only `read`, which is all that `r|` calls; the stubs ask for a whole file.
        with tarfile.open(fileobj=source, mode="r|") as tar:  # type: ignore[call-overload]
            _unpack_members(tar, source, directory, limits)
    except tarfile.TarError as exc:
        raise _refused(f"The archive is damaged or ends early: {exc}.") from exc
    except OSError as exc:
        raise _of_disk(exc, directory) from exc


def _unpack_members(
    tar: tarfile.TarFile, source: ByteSource, directory: Path, limits: UploadLimits
) -> None:
    total_bytes = 0
    for count, member in enumerate(tar, start=1):
        total_bytes += member.size
        if count > limits.max_files or total_bytes > limits.max_bytes:
            raise _too_large(limits)
        name = member.name.rstrip("/")
        _check(member, name)
        if member.isreg():
            source.allow(member.size + _HEADER_BYTES)
            _write(tar.extractfile(member), directory / name)
        source.allow(_HEADER_BYTES)


def _check(member: tarfile.TarInfo, name: str) -> None:
    name = "ok" if member.isdir() and name == "." else name
    shown = ascii(member.name)[1:-1][:_SHOWN]
    if not is_plain_name(name):
        raise _refused(f"The archive's member `{shown}` has a name that no file of a bundle has.")
    if not is_inside(name):
        raise _refused(f"The archive's member `{shown}` is not inside the bundle.")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _refused(f"The archive's member `{shown}` is not a plain file.")


def _write(content: IO[bytes] | None, path: Path) -> None:
    assert content is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        while chunk := content.read(_COPY_BYTES):
            target.write(chunk)


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, next_step=_NEXT_STEP)


def _too_large(limits: UploadLimits) -> BodyTooLarge:
    return BodyTooLarge(
        f"The bundle has over {limits.max_files} files or {limits.max_bytes} bytes.",
        next_step="Make it smaller, or raise `SHIPWAY_MAX_BUNDLE_BYTES` at the server.",
        limit_bytes=limits.max_bytes,
    )


def _of_disk(exc: OSError, directory: Path) -> InvalidRequest | StateUnusable:
    names = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}
    if exc.errno in names:
        return _refused(f"The archive has a path twice, or one that is no path: {exc.strerror}.")
    return StateUnusable(
        f"The upload cannot be stored in `{directory.parent}`: {exc.strerror}.",
        next_step="Free some space on its disk, then try again.",
    )
