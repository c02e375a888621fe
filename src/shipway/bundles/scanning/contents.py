"""Something with bytes: a file, an entry of an archive, or what a compressed file unfolds into."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from functools import partial
from typing import IO, Any, NamedTuple

MOST_RATIO = 100
FREE_BYTES = 16 * 1024 * 1024
"""What may unfold from a few bytes, before the ratio counts."""

MOST_UNPACKED_BYTES = 64 * 1024**3
_DECODER_MEMORY = 256 * 1024 * 1024
_CHUNK = 1 << 16


class Content(NamedTuple):
    """`open` gives the bytes from the beginning, each time anew."""

    path: str
    open: Callable[[], IO[bytes]]


class TooMuch(Exception):
    """It unfolds into more than it may."""


DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)
"""What reading a damaged compressed stream raises."""


def unfolded(content: Content, head: bytes) -> Content | None:
    """What joblib would read from the file, when that is compressed; None when it is not.

    One that names lz4 or joblib's oldest form is not among them: those cannot be read here.
    """
    for magic, decoder in _DECODERS:
        if head.startswith(magic):
            return Content(content.path, partial(_stream, content, decoder))
    return None


def _stream(content: Content, decoder: Callable[[], Any]) -> IO[bytes]:
    return io.BufferedReader(_Unfolding(content.open(), decoder), _CHUNK)


class _Unfolding(io.RawIOBase):
    """Decompresses stream after stream, as joblib's and the standard library's readers do."""

    def __init__(self, stream: IO[bytes], decoder: Callable[[], Any]) -> None:
        self._stream = stream
        self._new = decoder
        self._decoder = decoder()
        self._waiting = b""
        self._taken = self._given = 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._decoder.eof:
                self._waiting = self._decoder.unused_data or self._more()
                if not self._waiting.strip(b"\0"):
                    return 0
                self._decoder = self._new()
            data = self._decompressed(len(buffer))
            if data:
                self._count(len(data))
                buffer[: len(data)] = data
                return len(data)

    def _decompressed(self, size: int) -> bytes:
        given = b""
        if self._decoder.needs_input:
            given, self._waiting = self._waiting or self._more(), b""
            if not given:
                raise EOFError("the compressed stream ends too early")
        data: bytes = self._decoder.decompress(given, size)
        return data

    def _more(self) -> bytes:
        data = self._stream.read(_CHUNK)
        self._taken += len(data)
        return data

    def _count(self, size: int) -> None:
        self._given += size
        if self._given > min(FREE_BYTES + MOST_RATIO * self._taken, MOST_UNPACKED_BYTES):
            raise TooMuch(f"unfolds into over {self._given:,} bytes from {self._taken:,}")


class _Inflating:
    """A zlib decoder with the interface of the others."""

    def __init__(self, window: int) -> None:
        self._inflate = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    def decompress(self, data: bytes, size: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, size)


def _lzma() -> Any:
    return lzma.LZMADecompressor(memlimit=_DECODER_MEMORY)


_DECODERS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: _Inflating(31)),
    (b"\x78\x01", lambda: _Inflating(15)),
    (b"\x78\x5e", lambda: _Inflating(15)),
    (b"\x78\x9c", lambda: _Inflating(15)),
    (b"\x78\xda", lambda: _Inflating(15)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", _lzma),
    (b"\x5d\x00", _lzma),
)
