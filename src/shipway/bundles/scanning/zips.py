"""Zip archives that every reader reads alike; all others are refused."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from typing import IO

from shipway.bundles.scanning.contents import FREE_BYTES, MOST_RATIO, MOST_UNPACKED_BYTES
from shipway.core.registry import is_inside
from shipway.core.scans import Danger

MOST_ENTRIES = 100_000
MOST_NAME = 1024
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_END = b"PK\x05\x06"
_END_BYTES = 22
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_STREAMED = 0x8
_KNOWN = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class Ambiguous(Exception):
    """An archive that is refused; `entry` is the entry at fault, if it is one."""

    def __init__(self, danger: Danger, message: str, *, entry: str = "") -> None:
        super().__init__(message)
        self.danger = danger
        self.entry = entry


def starts_as_zip(head: bytes) -> bool:
    """Whether the bytes begin like a zip archive."""
    return head.startswith((b"PK\x03\x04", _END))


def hides_a_zip(file: IO[bytes]) -> bool:
    """Whether a file that does not begin like an archive ends like one."""
    return zipfile.is_zipfile(file)


def opened(file: IO[bytes], size: int) -> zipfile.ZipFile:
    """The archive, once its directory and its entries' own headers say the same.

    Raises:
        Ambiguous: they do not, or the archive unfolds into too much.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as exc:
        raise Ambiguous(Danger.UNREADABLE, f"a damaged zip archive: {exc}") from exc
    _check_ends(archive, file, size)
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise Ambiguous(Danger.BOMB, f"a zip archive of {len(entries):,} entries")
    if sum(entry.file_size for entry in entries) > MOST_UNPACKED_BYTES:
        raise Ambiguous(Danger.BOMB, "a zip archive that unfolds into too much")
    names = set[str]()
    for entry in entries:
        _check_entry(entry)
        if entry.filename in names:
            raise _refused(entry, "is there twice")
        names.add(entry.filename)
    _check_places(archive, file)
    return archive


def files_in(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The entries that are files."""
    return (entry for entry in archive.infolist() if not entry.is_dir())


def _check_ends(archive: zipfile.ZipFile, file: IO[bytes], size: int) -> None:
    file.seek(max(0, size - _END_BYTES))
    if not file.read(_END_BYTES).startswith(_END):
        raise Ambiguous(Danger.ARCHIVE, "a zip archive with bytes behind its end")
    first = min((entry.header_offset for entry in archive.infolist()), default=0)
    if first:
        raise Ambiguous(Danger.ARCHIVE, f"a zip archive behind {first} other bytes")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename.removesuffix("/")
    if not is_inside(name) or "\0" in entry.orig_filename or len(name) > MOST_NAME:
        raise _refused(entry, "is not inside the archive")
    if entry.flag_bits & _ENCRYPTED:
        raise _refused(entry, "is encrypted")
    if entry.compress_type not in _KNOWN:
        raise _refused(entry, f"has the unknown compression {entry.compress_type}")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(entry, "is a link or a device")
    if entry.file_size > FREE_BYTES + MOST_RATIO * entry.compress_size:
        raise _refused(entry, "unfolds into too much", danger=Danger.BOMB)


def _check_places(archive: zipfile.ZipFile, file: IO[bytes]) -> None:
    """Each entry's own header says what the directory says, and none lies inside another."""
    end = 0
    for entry in sorted(archive.infolist(), key=lambda one: one.header_offset):
        if entry.header_offset < end:
            raise _refused(entry, "overlaps another", danger=Danger.BOMB)
        file.seek(entry.header_offset)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size:
            raise _refused(entry, "has no header of its own")
        magic, _, flags, method, _, _, crc, packed, plain, name_size, extra_size = _LOCAL.unpack(
            head
        )
        name = file.read(name_size)
        if magic != b"PK\x03\x04" or method != entry.compress_type or flags != entry.flag_bits:
            raise _refused(entry, "has a header that differs from the directory")
        if name != _bytes_of(entry):
            raise _refused(entry, "has another name in its own header")
        wide = 0xFFFFFFFF in (packed, plain)
        stated = (crc, packed, plain) == (entry.CRC, entry.compress_size, entry.file_size)
        if not (wide or flags & _STREAMED or stated):
            raise _refused(entry, "has other sizes in its own header")
        end = entry.header_offset + _LOCAL.size + name_size + extra_size + entry.compress_size


def _bytes_of(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")


def _refused(entry: zipfile.ZipInfo, why: str, *, danger: Danger = Danger.ARCHIVE) -> Ambiguous:
    name = entry.filename[:200]
    return Ambiguous(danger, f"the archive's entry `{name}` {why}", entry=name)
