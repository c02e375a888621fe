"""Bytes to be scanned, read in order, with the position known."""

from __future__ import annotations

from typing import IO

_SKIP_BYTES = 1 << 20
MOST_LINE_BYTES = 64 * 1024 * 1024


class Ended(Exception):
    """The bytes end in the middle of something."""


class Source:
    """A stream that is read in order. `position` counts from its beginning."""

    __slots__ = ("_stream", "position")

    def __init__(self, stream: IO[bytes], *, position: int = 0) -> None:
        self._stream = stream
        self.position = position

    def read(self, size: int) -> bytes:
        """Exactly so many bytes; raises Ended when there are fewer."""
        data = self._stream.read(size)
        if len(data) != size:
            raise Ended(f"{size} bytes wanted at {self.position}, {len(data)} left")
        self.position += size
        return data

    def skip(self, size: int) -> None:
        """Reads so many bytes and forgets them; raises Ended when there are fewer."""
        while size > 0:
            size -= len(self.read(min(size, _SKIP_BYTES)))

    def line(self) -> bytes:
        """The bytes to the next newline, without it; raises Ended when there is none in time."""
        data = self._stream.readline(MOST_LINE_BYTES)
        if not data.endswith(b"\n"):
            raise Ended(f"no end of the line at {self.position}")
        self.position += len(data)
        return data[:-1]
