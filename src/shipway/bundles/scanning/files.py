"""One file of a bundle, and everything inside of it, whatever its name says."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import PurePosixPath
from typing import IO, NamedTuple

from shipway.bundles.scanning import zips
from shipway.bundles.scanning.contents import DAMAGED, Content, TooMuch, unfolded
from shipway.bundles.scanning.embedded import search
from shipway.bundles.scanning.findings import Findings
from shipway.bundles.scanning.imports import Allowed
from shipway.bundles.scanning.machine import BEGINNINGS, MOST_INSTRUCTIONS
from shipway.bundles.scanning.pickles import HINTED_INSTRUCTIONS, PickleScan
from shipway.core.scans import Danger

MOST_DEPTH = 4
"""Archives within archives."""

_HEAD_BYTES = 512
_MOST_NESTED_BYTES = 256 * 1024 * 1024
_PICKLED = frozenset({".pkl", ".pickle", ".joblib", ".sav", ".dill", ".pk", ".p", ".cloudpickle"})
_SHUT = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"MSCF": "cabinet",
    b"ZF0x": "old joblib",
    b"\x1f\x9d": "compress",
}
_MACHINE_CODE = (
    b"\x7fELF",
    b"\xcf\xfa\xed\xfe",
    b"\xce\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\0asm",
)
_NPY = b"\x93NUMPY"
_OBJECTS = re.compile(rb"""['"][<>|=]?O\d*['"]""")
_TAR_AT, _TAR = 257, b"ustar"


class _How(NamedTuple):
    """How something is to be read. `refers`: it lies in an archive, where torch refers to outside objects."""

    allowed: Allowed
    is_pickle: bool = False
    is_unfolded: bool = False
    refers: bool = False
    depth: int = 0


class FileScan:
    """Scans contents into `findings`, by the allow-list."""

    def __init__(self, allowed: Allowed, findings: Findings) -> None:
        self._allowed = allowed
        self._findings = findings

    def run(self, content: Content, *, is_pickle: bool = False) -> None:
        """Looks at all of it. `is_pickle`: it is loaded as a pickle, whatever it looks like."""
        self._content(content, _How(allowed=self._allowed, is_pickle=is_pickle))

    def _content(self, content: Content, how: _How) -> None:
        if how.depth > MOST_DEPTH:
            return self._findings.add(
                Danger.BOMB, content.path, "archives within archives, too deep"
            )
        try:
            self._look(content, how)
        except TooMuch as exc:
            self._findings.add(Danger.BOMB, content.path, str(exc))
        except (*DAMAGED, zipfile.BadZipFile, NotImplementedError) as exc:
            self._findings.add(Danger.UNREADABLE, content.path, f"cannot be read: {exc}")
        return None

    def _look(self, content: Content, how: _How) -> None:
        with closing(content.open()) as stream:
            head = stream.read(_HEAD_BYTES)
        if zips.starts_as_zip(head):
            return self._zip(content, how)
        inner = unfolded(content, head)
        if inner is not None and _unfolds(inner):
            self._content(inner, how._replace(depth=how.depth + 1))
            # The outer bytes are no pickle then, though they may look like one.
            return self._plain(content, head, how._replace(is_pickle=False, is_unfolded=True))
        self._shut(content, head)
        return self._plain(content, head, how)

    def _shut(self, content: Content, head: bytes) -> None:
        for magic, name in _SHUT.items():
            if head.startswith(magic):
                message = f"is a {name} archive, which cannot be looked into"
                self._findings.add(Danger.ARCHIVE, content.path, message)
        with closing(content.open()) as stream:
            if stream.seekable() and zips.hides_a_zip(stream):
                message = "ends as a zip archive, and does not begin as one"
                self._findings.add(Danger.ARCHIVE, content.path, message)
        if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
            self._findings.add(
                Danger.ARCHIVE, content.path, "is a tar archive inside of the bundle"
            )
        if head.startswith(_MACHINE_CODE) or (head[:2] == b"MZ" and b"This program" in head):
            self._findings.add(Danger.NATIVE, content.path, "is machine code")

    def _plain(self, content: Content, head: bytes, how: _How) -> None:
        end = 0
        is_marked = len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5
        is_named = PurePosixPath(content.path).suffix.lower() in _PICKLED and not how.is_unfolded
        runs = bool(head) and head[0] in BEGINNINGS
        if runs and (how.is_pickle or is_marked or is_named):
            end = self._pickle(content, how)
        elif head.startswith(_NPY):
            end = self._npy(content, how)
        elif runs:
            self._hint(content, how, most=HINTED_INSTRUCTIONS)
        with closing(content.open()) as stream:
            search(stream, self._pickles(content, how).hint, known_end=end)

    def _pickles(self, content: Content, how: _How) -> PickleScan:
        return PickleScan(content.path, how.allowed, self._findings, refers=how.refers)

    def _pickle(self, content: Content, how: _How, *, at: int = 0) -> int:
        """Follows it as joblib does and, where that is another way, as `pickle` does; where it ends."""
        scan = self._pickles(content, how)
        with closing(content.open()) as stream:
            stream.read(at)
            end = scan.follow(stream, at=at)
        if scan.has_arrays:
            self._hint(content, how, most=MOST_INSTRUCTIONS)
        return end

    def _hint(self, content: Content, how: _How, *, most: int) -> None:
        with closing(content.open()) as stream:
            self._pickles(content, how).hint(stream, 0, most=most)

    def _npy(self, content: Content, how: _How) -> int:
        """An array file: the header says whether a pickle follows."""
        with closing(content.open()) as stream:
            major = stream.read(8)[6:7]
            wide = 2 if major == b"\x01" else 4
            size = int.from_bytes(stream.read(wide), "little")
            if size > 1 << 20:
                self._findings.add(Danger.UNREADABLE, content.path, "has an oversized header")
                return 0
            header = stream.read(size)
        if _OBJECTS.search(header) is None:
            return 0
        return self._pickle(content, how, at=8 + wide + size)

    def _zip(self, content: Content, how: _How) -> None:
        with closing(content.open()) as stream:
            file, size = _seekable(stream)
            try:
                archive = zips.opened(file, size)
            except zips.Ambiguous as exc:
                path = f"{content.path}!{exc.entry}" if exc.entry else content.path
                return self._findings.add(exc.danger, path, str(exc))
            entries = list(zips.files_in(archive))
            is_script = _is_script(entry.filename for entry in entries)
            inside = _How(
                allowed=self._allowed.with_torch(is_script=is_script),
                refers=True,
                depth=how.depth + 1,
            )
            for entry in entries:
                path = f"{content.path}!{entry.filename}"
                self._content(Content(path, partial(archive.open, entry)), inside)
        return None


def _is_script(names: Iterable[str]) -> bool:
    return any("/code/" in name or name.startswith("code/") for name in names)


def _unfolds(content: Content) -> bool:
    """Whether its first bytes can be read: two bytes may look like a compressed stream by chance."""
    try:
        with closing(content.open()) as stream:
            stream.read(1)
    except DAMAGED:
        return False
    return True


def _seekable(stream: IO[bytes]) -> tuple[IO[bytes], int]:
    if isinstance(stream, io.BufferedReader) and stream.seekable():
        return stream, stream.seek(0, io.SEEK_END)
    data = stream.read(_MOST_NESTED_BYTES + 1)
    if len(data) > _MOST_NESTED_BYTES:
        raise TooMuch("an archive within an archive is too large")
    return io.BytesIO(data), len(data)
