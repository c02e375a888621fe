"""The spool of a gateway: what is recorded, in a bounded queue and then, by a thread, in segments on disk.

Whoever records never waits for the disk: past the queue's bounds an entry is lost, and counted. Small
entries are encoded by the event loop, many at once, while they are at hand in the processor's caches; large
ones, and those that are redacted, by the thread, which writes. While the disk takes nothing, the queue keeps
what it can hold, and the thread tries again. A *commit* is an entry that somebody waits for: all that wait
at once share one fdatasync, and when they cannot be written, they are told at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

from shipway.core.captures import Feedback
from shipway.core.errors import PredictionUnrecorded
from shipway.core.spooling import SpoolBounds
from shipway.core.telemetry import Column
from shipway.engines.incidents import log_unexpected
from shipway.gateway.spool_writer import (
    FEEDBACK,
    Item,
    Source,
    SpoolWriter,
    entries_in,
    together,
)

GATHER_S = 0.02
"""Entries that nobody waits for are encoded together with what comes within so long."""

WRITE_EVERY_S = 0.1
"""And written with what comes within so long: each time the thread runs, the event loop stands still."""

TOGETHER = 32
"""So many entries of one source are encoded at once."""

SMALL_BYTES = 16 * 1024
"""Larger entries are encoded by the thread."""

RETRY_S = 0.5
"""A disk that took nothing is tried again after so long; at once when somebody waits."""

MOST_AT_ONCE = 256
MOST_BYTES_AT_ONCE = 1024 * 1024
CLOSE_S = 5.0
"""A gateway that ends waits so long for its disk."""

FEEDBACK_BYTES = 1024


class Spool:
    """One per gateway process. `offer`, `commit` and `put_feedback` are for the event loop's thread."""

    def __init__(
        self,
        directory: Path,
        *,
        gateway: str,
        environment: str = "",
        bounds: SpoolBounds | None = None,
    ) -> None:
        """Begins to wait for entries; the first one makes the first file."""
        self.environment = environment
        self.directory = directory
        self._bounds = bounds or SpoolBounds()
        self._writer = SpoolWriter(directory, gateway, self._bounds)
        self._gathering: dict[Source, list[tuple[Any, int]]] = {}
        self._gathered: asyncio.TimerHandle | None = None
        self._offered: deque[Item] = deque()
        self._commits: deque[Item] = deque()
        # Counters of what came in are the event loop's, of what went out the thread's: no lock.
        self._items_in = self._bytes_in = self._items_out = self._bytes_out = 0
        self._wake = Event()
        self._is_idle = False
        self._is_closing = False
        self._trouble = ""
        self._thread = Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def offer(self, source: Source, entry: Any, size_bytes: int) -> None:
        """Takes an entry, or loses it and counts that. Never waits, and raises nothing.

        `size_bytes` is about what it keeps in memory. Nothing in it may change afterwards.
        """
        if self._is_over(size_bytes):
            source.row.add(Column.LOST_DISK if self._trouble else Column.LOST_QUEUE)
            return
        self._items_in += 1
        self._bytes_in += size_bytes
        if size_bytes > SMALL_BYTES or source.is_slow:
            self._put((source, entry, size_bytes, None))
            return
        gathering = self._gathering.get(source)
        if gathering is None:
            gathering = self._gathering[source] = []
        gathering.append((entry, size_bytes))
        if len(gathering) >= TOGETHER:
            self._encode(source)
        elif self._gathered is None:
            loop = asyncio.get_running_loop()
            self._gathered = loop.call_later(GATHER_S, self._encode_all)

    def _encode_all(self) -> None:
        self._gathered = None
        for source in list(self._gathering):
            self._encode(source)

    def _encode(self, source: Source) -> None:
        """Encodes what was gathered; what does not go together is left to the thread."""
        gathering = self._gathering.pop(source)
        encoded = together(source, [entry for entry, _ in gathering])
        if encoded is not None:
            size_bytes = len(encoded.payload)
            self._bytes_in += size_bytes - sum([size for _, size in gathering])
            self._put((source, encoded, size_bytes, None))
            return
        for entry, size_bytes in gathering:
            self._put((source, entry, size_bytes, None))

    def _put(self, item: Item) -> None:
        self._offered.append(item)
        if self._is_idle:
            self._is_idle = False
            self._wake.set()

    def commit(self, source: Source, entry: Any, size_bytes: int) -> asyncio.Future[None]:
        """Takes an entry; the future is done when it is on disk, as far as fdatasync goes.

        Its exception is PredictionUnrecorded: it is not there, and will not be.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._is_over(size_bytes):
            waiter.set_exception(unrecorded(self._trouble or "too much waits to be written"))
            return waiter
        self._items_in += 1
        self._bytes_in += size_bytes
        self._commits.append((source, entry, size_bytes, waiter))
        self._wake.set()
        return waiter

    def put_feedback(self, feedback: Feedback) -> asyncio.Future[None]:
        """Takes feedback; done, or failed, as `commit` says."""
        return self.commit(FEEDBACK, feedback, FEEDBACK_BYTES)

    async def close(self) -> None:
        """Writes what is left, seals the segment and ends the thread; waits for a slow disk 5 s at most."""
        if self._gathered is not None:
            self._gathered.cancel()
        self._encode_all()
        self._is_closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, CLOSE_S)

    def _is_over(self, size_bytes: int) -> bool:
        bounds = self._bounds
        return (
            self._items_in - self._items_out >= bounds.queue_items
            or self._bytes_in - self._bytes_out + size_bytes > bounds.queue_bytes
            or self._is_closing
        )

    # What follows runs in the thread.

    def _run(self) -> None:
        while not self._is_closing or self._offered or self._commits:
            try:
                self._wait()
                self._write()
                self._writer.seal_if_due()
            except Exception as exc:  # noqa: BLE001 - the thread's outermost frame
                log_unexpected(exc)
        self._writer.seal()

    def _wait(self) -> None:
        """Until there is something to write or to seal."""
        if not self._offered and not self._commits:
            self._is_idle = True
            # Whoever put something in before has seen no idle thread.
            if not self._offered and not self._commits and not self._is_closing:
                self._wake.wait(self._writer.seal_in_s())
            self._is_idle = False
        self._wake.clear()
        has_many = len(self._offered) >= MOST_AT_ONCE and not self._trouble
        if self._offered and not (self._commits or self._is_closing or has_many):
            self._wake.wait(RETRY_S if self._trouble else WRITE_EVERY_S)

    def _write(self) -> None:
        """Writes the next entries. In trouble, those that somebody waits for are tried by themselves."""
        commits = _taken(self._commits)
        # Together with large ones they may be more than control takes at once.
        is_large = sum(size for _, _, size, _ in commits) > self._bounds.segment_bytes
        offered = [] if is_large or (commits and self._trouble) else _taken(self._offered)
        items = commits + offered
        if not items:
            return
        try:
            invalid = self._writer.write(items, synced=bool(commits))
        except OSError as exc:
            self._trouble = exc.strerror or str(exc)
            self._let_go(commits)
            _tell(commits, self._trouble)
            self._try_again(offered)
            return
        except Exception:
            self._let_go(items)
            _count(items, Column.LOST_INVALID)
            _tell(commits, "of a fault in the gateway")
            raise
        self._trouble = ""
        self._let_go(items)
        _tell(invalid, "it cannot be encoded")
        _tell(commits)

    def _try_again(self, items: list[Item]) -> None:
        if not self._is_closing:
            self._offered.extendleft(reversed(items))
            return
        _count([*items, *self._offered], Column.LOST_DISK)
        self._offered.clear()

    def _let_go(self, items: Sequence[Item]) -> None:
        self._items_out += sum(map(entries_in, items))
        self._bytes_out += sum(size_bytes for _, _, size_bytes, _ in items)


def _taken(queue: deque[Item]) -> list[Item]:
    """The next items of a queue, as many as are written at once."""
    taken: list[Item] = []
    size = 0
    while queue and len(taken) < MOST_AT_ONCE and size < MOST_BYTES_AT_ONCE:
        taken.append(queue.popleft())
        size += taken[-1][2]
    return taken


def _count(items: Sequence[Item], column: Column) -> None:
    for item in items:
        item[0].row.values[column] += entries_in(item)


def _tell(items: Sequence[Item], why: str = "") -> None:
    """Lets those who wait for the items know; `why` they are not written, empty when they are."""
    waiters = [waiter for *_, waiter in items if waiter is not None]
    if waiters:
        waiters[0].get_loop().call_soon_threadsafe(_settle, waiters, why)


def _settle(waiters: Sequence[asyncio.Future[None]], why: str) -> None:
    for waiter in waiters:
        if waiter.done():  # its caller has left, or it was told before
            continue
        if why:
            waiter.set_exception(unrecorded(why))
        else:
            waiter.set_result(None)


def unrecorded(why: str) -> PredictionUnrecorded:
    """The error for who waits for an entry that cannot be written."""
    return PredictionUnrecorded(
        f"It could not be recorded: {why}.",
        next_step="Make room on the gateway's disk, or set `capture.durability: buffered`.",
    )
