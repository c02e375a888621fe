"""The archive: a plain tar, whose last member, the seal, is a hash over every byte before it.

    tables/NAME/000001.jsonl.gz   rows in key order, one JSON array a line
    bundles/HEX/…                 what the artifact store has of a bundle, `shipway.json` first
    files/keys/…, files/tls/…     files of the state directory
    manifest.json                 `core.backups.BackupManifest`
    seal.json                     SHA-256 of all that comes before, and the manifest's size

Header, seal and end are as tar writes them and nothing else, so that there is no byte in the file
which could change unnoticed. `tar -tf` and `tar -xf` read it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Generator, Iterable, Iterator
from hashlib import sha256
from typing import IO, NamedTuple

import msgspec

from shipway.core.backups import FORMAT, BackupManifest
from shipway.core.errors import BackupCorrupt, SchemaTooNew

MANIFEST = "manifest.json"
_SEAL = "seal.json"
_BLOCK = tarfile.BLOCKSIZE
_SEAL_BYTES = 4 * _BLOCK
"""Header, content, and the two empty blocks at the end of every tar."""

_LARGEST_MANIFEST = 4 * 1024 * 1024
_NEXT_STEP = "Use another copy of it, or another backup."


class Entry(NamedTuple):
    """A member on its way into an archive; the chunks have `size` bytes together."""

    name: str
    size: int
    chunks: Iterable[bytes]


class Member(NamedTuple):
    """A member of an archive that is being read; the stream ends with the next member."""

    name: str
    size: int
    stream: IO[bytes]


class _Seal(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str
    manifest_bytes: int


def entry_of(name: str, data: bytes) -> Entry:
    """A member that is in memory already."""
    return Entry(name, len(data), [data])


def archived(entries: Iterable[Entry]) -> Generator[bytes, None, None]:
    """The bytes of an archive of these members; the last must be the manifest."""
    digest, size = sha256(), 0
    for entry in entries:
        size = entry.size
        for chunk in _framed(entry):
            digest.update(chunk)
            yield chunk
    yield _sealing(digest.hexdigest(), size)


def _framed(entry: Entry) -> Iterator[bytes]:
    yield _header(entry.name, entry.size)
    yield from entry.chunks
    yield bytes(-entry.size % _BLOCK)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


def _sealing(digest: str, manifest_bytes: int) -> bytes:
    content = msgspec.json.encode(_Seal(sha256=digest, manifest_bytes=manifest_bytes))
    return b"".join(_framed(entry_of(_SEAL, content))) + bytes(2 * _BLOCK)


def sealed_manifest(chunks: Iterable[bytes], *, place: str) -> BackupManifest:
    """The manifest of an archive, once each of its bytes was found to be as it was written.

    Raises:
        BackupCorrupt: it is no backup, was cut off, or a byte has changed.
        SchemaTooNew: a newer release wrote it, in a format that this one does not read.
    """
    digest, tail = sha256(), bytearray()
    for chunk in chunks:
        tail += chunk
        surplus = len(tail) - _LARGEST_MANIFEST - _SEAL_BYTES
        if surplus > 0:
            digest.update(tail[:surplus])
            del tail[:surplus]
    body, seal = bytes(tail[:-_SEAL_BYTES]), bytes(tail[-_SEAL_BYTES:])
    digest.update(body)
    manifest_bytes = _manifest_bytes(seal, place)
    if seal != _sealing(digest.hexdigest(), manifest_bytes):
        raise corrupt(place, "its bytes do not match its seal")
    return _manifest(body, manifest_bytes, place)


def _manifest_bytes(seal: bytes, place: str) -> int:
    try:
        content = seal[_BLOCK : 2 * _BLOCK].rstrip(b"\0")
        return msgspec.json.decode(content, type=_Seal).manifest_bytes
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise corrupt(place, "it has no seal: it is no backup, or was cut off") from exc


def _manifest(body: bytes, size: int, place: str) -> BackupManifest:
    start = len(body) - size - (-size % _BLOCK)
    text = body[start : start + size]
    try:
        written = msgspec.json.decode(text, type=_Format).format
        if written > FORMAT:
            raise SchemaTooNew(
                f"`{place}` has format {written}, written by a newer Shipway; this one reads"
                f" formats up to {FORMAT}.",
                next_step="Restore it with the release that wrote it, or a newer one.",
            )
        return msgspec.json.decode(text, type=BackupManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise corrupt(place, "its manifest cannot be read") from exc


class _Format(msgspec.Struct):
    format: int


def members(chunks: Iterable[bytes], *, place: str) -> Generator[Member, None, None]:
    """The members of an archive in their order; read each before asking for the next.

    Raises:
        BackupCorrupt: it cannot be read as an archive.
    """
    try:
        with tarfile.open(fileobj=_Stream(iter(chunks)), mode="r|", bufsize=1 << 20) as tar:
            while (info := tar.next()) is not None:
                stream = tar.extractfile(info)
                if stream is None:
                    raise corrupt(place, f"`{info.name}` is not a file")
                yield Member(info.name, info.size, stream)
                # Only the present one is needed, and there may be a million.
                tar.members.clear()  # type: ignore[attr-defined]  # not in its stubs
    except (tarfile.TarError, EOFError) as exc:
        raise corrupt(place, f"it cannot be read as an archive: {exc}") from exc


class _Stream(io.RawIOBase):
    """Chunks as a file that is read from front to end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes, `size` of them unless there are fewer."""
        parts: list[bytes] = []
        wanted = size
        while wanted > 0:
            if not self._left:
                self._left = next(self._chunks, b"")
                if not self._left:
                    break
            parts.append(self._left[:wanted])
            self._left = self._left[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)


def corrupt(place: str, reason: str) -> BackupCorrupt:
    """The error for a backup that is not what it should be."""
    return BackupCorrupt(
        f"The backup `{place}` cannot be used: {reason}.", next_step=_NEXT_STEP, place=place
    )
