"""What the spool's thread does: entries to frames, frames to the segment, segments to their end."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic, thread_time
from typing import Any, NamedTuple, Protocol

from shipway.core.captures import Feedback
from shipway.core.spooling import SpoolBounds
from shipway.core.telemetry import Column
from shipway.engines.incidents import log_unexpected
from shipway.gateway.counters import Row
from shipway.gateway.segments import OpenSegment, used_bytes
from shipway.wire.spool import feedback_payload, frame

LOOK_EVERY_S = 1.0
"""How much room there is on the disk is looked up again after so long."""

LOOK_SHARE = 0.05
"""Looking takes at most this share of a processor: each segment that waits costs a few microseconds."""


class Source(Protocol):
    """What entries are from: knows how they are encoded, in any thread."""

    @property
    def row(self) -> Row:
        """Where its entries are counted."""
        ...

    @property
    def is_slow(self) -> bool:
        """Whether encoding takes longer than an event loop should be held up."""
        ...

    def opening(self) -> bytes:
        """The payload that stands before the first of its entries in a segment; empty for none."""
        ...

    def payload(self, entry: Any) -> bytes:
        """The payload of an entry. May raise."""
        ...

    def batch(self, entries: Sequence[Any]) -> bytes | None:
        """The payload of several entries together; None where they do not go together. May raise."""
        ...


class Encoded(NamedTuple):
    """So many entries in one payload."""

    payload: bytes
    number: int


Item = tuple[Source, Any, int, "asyncio.Future[None] | None"]
"""A source; an entry of it, or `Encoded` ones; about how many bytes that keeps in memory; who waits for it."""


def together(source: Source, entries: Sequence[Any]) -> Encoded | None:
    """Entries of a source in one payload; None where they must be encoded one by one."""
    with suppress(Exception):  # whichever entry is to blame is found one by one
        payload = source.batch(entries)
        return None if payload is None else Encoded(payload, len(entries))
    return None


def entries_in(item: Item) -> int:
    """How many entries an item has."""
    return item[1].number if isinstance(item[1], Encoded) else 1


class SpoolWriter:
    """Writes items into one segment after the other. For one thread."""

    def __init__(self, directory: Path, gateway: str, bounds: SpoolBounds) -> None:
        self._directory = directory
        self._gateway = gateway
        self._bounds = bounds
        self._segment: OpenSegment | None = None
        self._began = 0.0
        self._opened: set[Source] = set()
        self._room = 0
        self._looked_at = -inf
        self._look_took_s = 0.0

    def write(self, items: Sequence[Item], *, synced: bool) -> list[Item]:
        """Writes all of them and counts them; gives those that cannot be encoded, which are lost.

        Raises:
            OSError: none is written, or with `synced` it is not sure that all are on disk. They may be
                tried again.
        """
        frames, counts, invalid = self._encoded(items)
        if frames:
            self._seal_if_short_of(sum(map(len, frames)))
            self._append(self._openings(counts) + frames, synced=synced)
            self._opened |= counts.keys()
        for source, count in counts.items():
            source.row.values[Column.CAPTURED] += count
        for source, *_ in invalid:
            source.row.add(Column.LOST_INVALID)
        return invalid

    def seal_in_s(self) -> float | None:
        """After how many seconds `seal_if_due` has something to do; None: not before the next write."""
        if self._segment is None:
            return None
        return max(0.0, self._began + self._bounds.segment_age_s - monotonic())

    def seal_if_due(self) -> None:
        """Seals the segment when it is old or large enough."""
        if self._segment is not None and self._bounds.is_full(
            age_s=monotonic() - self._began, size_bytes=self._segment.size_bytes
        ):
            self.seal()

    def seal(self) -> None:
        """Ends the segment, for control to take; idempotent."""
        segment = self._segment
        if segment is not None:
            self._forget()
            segment.seal()

    def _seal_if_short_of(self, size_bytes: int) -> None:
        """Seals the segment where it would become longer than control takes."""
        segment = self._segment
        if segment is not None and segment.size_bytes + size_bytes > self._bounds.longest_bytes:
            self.seal()

    def _encoded(self, items: Sequence[Item]) -> tuple[list[bytes], dict[Source, int], list[Item]]:
        """The frames, how many entries of each source are in them, and the items that are not."""
        frames: list[bytes] = []
        counts: dict[Source, int] = {}
        invalid: list[Item] = []
        groups: dict[Source, list[Item]] = {}
        for item in items:
            groups.setdefault(item[0], []).append(item)
        for source, group in groups.items():
            made, unmade = _encoded_ones(source, group, self._bounds.longest_bytes)
            invalid += unmade
            if made:
                frames += [frame(one.payload) for one in made]
                counts[source] = sum(one.number for one in made)
        return frames, counts, invalid

    def _openings(self, sources: Iterable[Source]) -> list[bytes]:
        openings = (source.opening() for source in sources if source not in self._opened)
        return [frame(opening) for opening in openings if opening]

    def _append(self, frames: Sequence[bytes], *, synced: bool) -> None:
        data = b"".join(frames)
        self._require_room(len(data))
        segment = self._segment
        if segment is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            segment = self._segment = OpenSegment(self._directory, self._gateway)
            self._began = monotonic()
        before = segment.size_bytes
        segment.append(data, len(frames))
        self._room -= len(data)
        if not synced:
            return
        try:
            segment.sync()
        except OSError:
            # Linux forgets what it could not flush: a later fdatasync of this file would prove nothing.
            segment.cut(before)
            segment.close()
            self._forget()
            raise

    def _forget(self) -> None:
        self._segment = None
        self._opened = set()

    def _require_room(self, size_bytes: int) -> None:
        """Leaves the disk alone where the spool has as much of it as it may.

        Raises:
            OSError: there is no room for so many bytes.
        """
        now = monotonic()
        pause_s = self._look_took_s / LOOK_SHARE
        if size_bytes <= self._room:
            pause_s = max(pause_s, LOOK_EVERY_S)
        if now - self._looked_at >= pause_s:
            began_s = thread_time()
            self._room, self._looked_at = self._room_bytes(), now
            self._look_took_s = thread_time() - began_s
        if size_bytes > self._room:
            raise OSError(errno.ENOSPC, "the spool has as much of the disk as it may")

    def _room_bytes(self) -> int:
        place = self._directory
        while not place.exists():
            place = place.parent
        disk = os.statvfs(place)
        return self._bounds.room_bytes(
            used=used_bytes(self._directory),
            free=disk.f_bavail * disk.f_frsize,
            total=disk.f_blocks * disk.f_frsize,
        )


def _encoded_ones(
    source: Source, items: Sequence[Item], longest: int
) -> tuple[list[Encoded], list[Item]]:
    """One source's items, those that are not encoded yet together if they can be; and those that cannot."""
    made = [item[1] for item in items if isinstance(item[1], Encoded)]
    raw = [item for item in items if not isinstance(item[1], Encoded)]
    all_of_them = together(source, [item[1] for item in raw]) if len(raw) > 1 else None
    if all_of_them is not None and len(all_of_them.payload) <= longest:
        return [*made, all_of_them], []
    invalid: list[Item] = []
    for item in raw:
        try:
            payload = source.payload(item[1])
            if len(payload) > longest:
                raise ValueError(f"it has {len(payload)} bytes, of at most {longest}")
            made.append(Encoded(payload, 1))
        except Exception as exc:  # noqa: BLE001 - one entry's fate never decides another's
            if not invalid:  # a model may make such of every request
                log_unexpected(exc, heading="An entry of the prediction log cannot be encoded.\n")
            invalid.append(item)
    return made, invalid


class _FeedbackSource:
    """Entries are `Feedback`. They are no predictions, and counted in a row that nobody looks at."""

    row = Row()
    is_slow = False

    def opening(self) -> bytes:
        return b""

    def payload(self, entry: Feedback) -> bytes:
        return feedback_payload(entry)

    def batch(self, entries: Sequence[Feedback]) -> None:
        del entries


FEEDBACK: Source = _FeedbackSource()
