"""The content of a file that joblib may have compressed."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from shipway.core.errors import MissingDependency

DAMAGED = (EOFError, struct.error, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What reading a shortened or damaged stream raises."""


@contextmanager
def uncompressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream of the file's content, whichever of joblib's compressions it has."""
    head = file.read(6)
    file.seek(0)
    for magic, opened in _COMPRESSIONS:
        if head.startswith(magic):
            with opened(file) as stream:
                yield stream
            return
    yield file


class _Zlib(io.RawIOBase):
    """A bare zlib stream, which the standard library has no file class for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj()
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            chunk = self._file.read(1 << 16)
            if not chunk:
                if not self._inflate.eof:
                    raise EOFError("the zlib stream ends too early")
                return 0
            self._ready = self._inflate.decompress(chunk)
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def _open_zlib(file: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Zlib(file), 1 << 16)


def _open_lz4(file: IO[bytes]) -> IO[bytes]:
    try:
        frame = importlib.import_module("lz4.frame")
    except ModuleNotFoundError as exc:
        raise MissingDependency(
            "The model is compressed with lz4, and package `lz4` is not installed.",
            next_step="Run `pip install lz4` in this environment.",
            package="lz4",
        ) from exc
    opened: IO[bytes] = frame.LZ4FrameFile(file, "rb")
    return opened


_COMPRESSIONS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
    (b"\x5d\x00\x00", lzma.LZMAFile),
    (b"\x04\x22\x4d\x18", _open_lz4),
    (b"\x78\x01", _open_zlib),
    (b"\x78\x5e", _open_zlib),
    (b"\x78\x9c", _open_zlib),
    (b"\x78\xda", _open_zlib),
)
