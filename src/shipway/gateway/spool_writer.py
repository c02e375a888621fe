"""What the spool's thread does: entries to frames, frames to the segment, segments to their end."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from shipway.core.captures import Feedback
from shipway.core.spooling import SpoolBounds
from shipway.core.telemetry import Column
from shipway.engines.incidents import log_unexpected
from shipway.gateway.counters import Row
from shipway.gateway.segments import OpenSegment, used_bytes
from shipway.wire.spool import feedback_payload, frame

LOOK_EVERY_S = 1.0
"""How much room there is on the disk is looked up again after so long."""


class Source(Protocol):
    """What entries are from: knows how they are encoded. Asked in the spool's thread."""

    @property
    def row(self) -> Row:
        """Where its entries are counted."""
        ...

    def opening(self, number: int) -> bytes:
        """The payload that stands before the first of its entries in a segment; empty for none."""
        ...

    def payload(self, number: int, entry: Any) -> bytes:
        """The payload of an entry. `number` is the source's own in this segment."""
        ...

    def batch(self, number: int, entries: Sequence[Any]) -> bytes | None:
        """The payload of several entries together, None where they do not go together. May raise."""
        ...


Item = tuple[Source, Any, int, "asyncio.Future[None] | None"]
"""A source, an entry of it, about how many bytes that keeps in memory, and who waits for it."""


class SpoolWriter:
    """Writes items into one segment after the other. For one thread."""

    def __init__(self, directory: Path, gateway: str, bounds: SpoolBounds) -> None:
        self._directory = directory
        self._gateway = gateway
        self._bounds = bounds
        self._segment: OpenSegment | None = None
        self._began = 0.0
        self._numbers: dict[Source, int] = {}
        self._room = 0
        self._looked_at = -LOOK_EVERY_S

    def write(self, items: Sequence[Item], *, synced: bool) -> list[Item]:
        """Writes all of them and counts them; gives those that cannot be encoded, which are lost.

        Raises:
            OSError: none is written, or with `synced` it is not sure that all are on disk. They may be
                tried again.
        """
        known = len(self._numbers)
        frames, counts, invalid = self._encoded(items)
        try:
            if frames:
                self._append(frames, synced=synced)
        except OSError:
            self._numbers = dict(list(self._numbers.items())[:known])
            raise
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
        if self._segment is not None:
            self._segment.seal()
            self._forget()

    def _encoded(self, items: Sequence[Item]) -> tuple[list[bytes], dict[Source, int], list[Item]]:
        """The frames, how many items of each source are in them, and the items that are not."""
        frames: list[bytes] = []
        counts: dict[Source, int] = {}
        invalid: list[Item] = []
        groups: dict[Source, list[Item]] = {}
        for item in items:
            groups.setdefault(item[0], []).append(item)
        for source, group in groups.items():
            made, unmade = self._frames_of(source, group)
            frames += made
            invalid += unmade
            counts[source] = len(group) - len(unmade)
        return frames, counts, invalid

    def _frames_of(self, source: Source, items: Sequence[Item]) -> tuple[list[bytes], list[Item]]:
        """The frames of one source's items, and the items that cannot be encoded."""
        known = self._numbers.get(source)
        number = len(self._numbers) if known is None else known
        payloads, invalid = _payloads(source, number, items)
        if payloads and known is None:
            opening = source.opening(number)
            payloads = [opening, *payloads] if opening else payloads
            self._numbers[source] = number
        return [frame(payload) for payload in payloads], invalid

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
        self._numbers = {}

    def _require_room(self, size_bytes: int) -> None:
        """Leaves the disk alone where the spool has as much of it as it may.

        Raises:
            OSError: there is no room for so many bytes.
        """
        now = monotonic()
        if size_bytes > self._room or now - self._looked_at >= LOOK_EVERY_S:
            self._room, self._looked_at = self._room_bytes(), now
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


def _payloads(source: Source, number: int, items: Sequence[Item]) -> tuple[list[bytes], list[Item]]:
    """The payloads of one source's items, one for all where that can be, and the items that have none."""
    if len(items) > 1:
        with suppress(Exception):  # whichever entry is to blame is found below
            batch = source.batch(number, [entry for _, entry, _, _ in items])
            if batch is not None:
                return [batch], []
    payloads: list[bytes] = []
    invalid: list[Item] = []
    for item in items:
        try:
            payloads.append(source.payload(number, item[1]))
        except Exception as exc:  # noqa: BLE001 - one entry's fate never decides another's
            log_unexpected(exc, heading="An entry of the prediction log cannot be encoded.\n")
            invalid.append(item)
    return payloads, invalid


class _FeedbackSource:
    """Entries are `Feedback`. They are no predictions, and counted in a row that nobody looks at."""

    row = Row()

    def opening(self, number: int) -> bytes:
        del number
        return b""

    def payload(self, number: int, entry: Feedback) -> bytes:
        del number
        return feedback_payload(entry)

    def batch(self, number: int, entries: Sequence[Feedback]) -> None:
        del number, entries


FEEDBACK: Source = _FeedbackSource()
