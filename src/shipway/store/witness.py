"""The file of signed heads: what the database cannot take back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from shipway.core.errors import InvalidRequest, StateUnusable
from shipway.core.heads import Head
from shipway.store.files import write_whole
from shipway.wire.audit import line_of, links_in

_TAIL_BYTES = 64 * 1024


class Witness:
    """`heads.jsonl`: one signed head per line, in the order of their numbers. One writer."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def heads(self) -> Iterator[Head]:
        """All heads, oldest first. A last line without its end was never finished, and is left out.

        Raises:
            InvalidRequest: a line is none of ours.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as lines:
            whole = (line for line in lines if line.endswith(b"\n"))
            for link in links_in(whole, source=f"`{self.path}`"):
                if isinstance(link, Head):
                    yield link

    def last_number(self) -> int:
        """The number of the last head that can be read; 0 when there is none."""
        if not self.path.exists():
            return 0
        for line in reversed(self._tail().split(b"\n")[:-1]):
            with suppress(InvalidRequest):
                (link,) = links_in([line], source="its end")
                if isinstance(link, Head):
                    return link.number
        return 0

    def add(self, heads: Iterable[Head]) -> None:
        """Appends heads; they are on the disk when this returns.

        Raises:
            StateUnusable: the file cannot be written.
        """
        lines = b"".join(line_of(head) for head in heads)
        if not lines:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.truncate(self._finished_bytes())
                stream.write(lines)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as exc:
            raise StateUnusable(
                f"The signed heads cannot be written to `{self.path}`: {exc.strerror or exc}.",
                next_step="Make it writable, or free some space.",
            ) from exc

    def forget_before(self, number: int) -> None:
        """Drops the heads below that number, which went with an archive."""
        if self.path.exists():
            kept = (line_of(head) for head in self.heads() if head.number >= number)
            write_whole(self.path, kept)

    def _tail(self) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(max(0, self.path.stat().st_size - _TAIL_BYTES))
            return stream.read()

    def _finished_bytes(self) -> int:
        """How long the file is without a last line that was never finished."""
        tail = self._tail()
        return self.path.stat().st_size - len(tail.rpartition(b"\n")[2])
