"""This gateway's counters in a file that the machine's other gateways map, and theirs as seen here.

`<state>/run/counters/<id>-<random>.bin` has one writer, which holds an exclusive `flock` on it for as
long as it lives. The kernel lets go of the lock when the process ends, however it ends: a file whose
lock is free belongs to nobody, and whoever finds it first folds it into `past.bin`.

A file that cannot be made (a full disk, a foreign owner) costs the others sight of this gateway, and
nothing else: it counts in memory of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from shipway.core.telemetry import (
    COLUMNS,
    Column,
    Name,
    Slots,
    Times,
    count_queue,
    count_run,
    merged,
)
from shipway.engines.logs import say
from shipway.gateway.neighbours import Neighbours
from shipway.wire.counters import (
    BLOCK_BYTES,
    MAGIC,
    NAME_AT,
    PID_AT,
    encoded_name,
    values_of,
)

LOOK_EVERY_S = 0.25
ASK_AGAIN_S = 0.02
"""Past a limit, the others are asked for signs of life; not more often than this."""

SEGMENT_BYTES = 128 * BLOCK_BYTES
"""A file grows by so much: whole pages, whatever their size."""


class Row:
    """The counts of one version behind an endpoint, or of an endpoint."""

    __slots__ = ("values",)

    def __init__(self, values: Slots | None = None) -> None:
        """Counts in `values`; in memory that nobody else sees without."""
        self.values: Slots = [0.0] * COLUMNS if values is None else values

    def add(self, column: Column) -> None:
        """Counts one more."""
        self.values[column] += 1.0

    def add_times(self, times: Times) -> None:
        """Counts where the time of one request went in its replica."""
        count_queue(self.values, times.queue_s)
        count_run(self.values, times.run_s, batches=times.batches, rows=times.batch_rows)


class Counters:
    """The rows of this gateway, and the sums over all gateways of the machine."""

    def __init__(self, directory: Path | None = None, gateway: str = "gateway") -> None:
        """Shares its rows in the directory; keeps them to itself without one, or where it cannot."""
        self._rows: dict[Name, Row] = {}
        self._file: _OwnFile | None = None
        self._neighbours: Neighbours | None = None
        self._gateway = gateway
        self._asked_at = 0.0
        if directory is None:
            return
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = _OwnFile(directory, gateway)
        except OSError as exc:
            say(f"The counters are not shared, and the limits are this gateway's alone: {exc}.")
        self._neighbours = Neighbours(directory, self._file.name if self._file else "")
        self.look()
        self._neighbours.fold()

    def row(self, endpoint: str, version: str = "") -> Row:
        """The row of that name, made at its first mention. Not for the way of a request."""
        name = (endpoint, version)
        row = self._rows.get(name)
        if row is None:
            row = self._rows[name] = Row(self._file.values(name) if self._file else None)
        return row

    @property
    def gateways(self) -> int:
        """How many gateways live on this machine, this one included."""
        return 1 + (self._neighbours.number if self._neighbours else 0)

    @property
    def is_shared(self) -> bool:
        """Whether the other gateways of the machine see this one's rows."""
        return self._file is not None

    def own(self) -> dict[Name, list[float]]:
        """The counts of this gateway alone."""
        return {name: list(row.values) for name, row in self._rows.copy().items()}

    def look(self) -> None:
        """Finds out which other gateways live, and which rows they have."""
        if self._neighbours is not None:
            with suppress(OSError):
                self._neighbours.look()

    def others_inside(self, endpoint: str) -> tuple[Slots, ...]:
        """The endpoint's rows in the other gateways, as they change."""
        return self._neighbours.values((endpoint, "")) if self._neighbours else ()

    def others_alive(self, endpoint: str) -> tuple[Slots, ...]:
        """The same, once others that have just ended are left out."""
        now = monotonic()
        if now - self._asked_at > ASK_AGAIN_S:
            self._asked_at = now
            self.look()
        return self.others_inside(endpoint)

    def processes(self) -> dict[str, int]:
        """The process numbers of the living gateways of this machine, by their ids."""
        others = self._neighbours.processes() if self._neighbours else {}
        own = self._file.name.rpartition("-")[0] if self._file else self._gateway
        return {**others, own: os.getpid()}

    def sums(self) -> dict[Name, list[float]]:
        """The counts over all gateways of the machine, those that have ended included. Reads files."""
        if self._neighbours is None:
            return self.own()
        return merged([self.own(), *self._neighbours.rows()])

    async def watch(self, on_look: Callable[[], None]) -> None:
        """Looks at the other gateways again and again, until cancelled."""
        while self._neighbours is not None:
            self.look()
            on_look()
            if self._neighbours.may_fold():
                await asyncio.to_thread(self._neighbours.fold)
            await asyncio.sleep(LOOK_EVERY_S)

    def close(self) -> None:
        """Ends this gateway's part: others count it as gone. The counts stay; idempotent."""
        if self._file is not None:
            self._file.close()
        if self._neighbours is not None:
            self._neighbours.close()


class _OwnFile:
    """The file that this process writes, and the lock that says so."""

    def __init__(self, directory: Path, gateway: str) -> None:
        """Makes it; others see it locked and complete from the first moment.

        Raises:
            OSError: it cannot be made.
        """
        # Random, for an id is used again: what was folded under a name must stay folded.
        self.name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', gateway)[:64]}-{secrets.token_hex(6)}.bin"
        self._next = 1
        self._is_short = False
        self._segments: list[memoryview] = []
        temporary = directory / f".{self.name}"
        self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._grow()
            self._segments[0][: len(MAGIC)] = MAGIC
            self._segments[0][PID_AT : PID_AT + 8].cast("Q")[0] = os.getpid()
            temporary.rename(directory / self.name)
        except OSError:
            os.close(self._descriptor)
            temporary.unlink(missing_ok=True)
            raise

    def values(self, name: Name) -> Slots | None:
        """The counts of a new block under that name; None when there is no room for it."""
        label = encoded_name(name)
        segment, number = divmod(self._next, SEGMENT_BYTES // BLOCK_BYTES)
        if label is None or not self._has(segment):
            return None
        self._next += 1
        data, at = self._segments[segment], number * BLOCK_BYTES
        data[at + NAME_AT : at + NAME_AT + len(label)] = label
        data[at : at + NAME_AT].cast("Q")[0] = len(label)
        return values_of(data, number)

    def _has(self, segment: int) -> bool:
        if segment < len(self._segments):
            return True
        try:
            self._grow()
        except OSError as exc:
            if not self._is_short:
                say(f"The counters of some versions are not shared: {exc}.")
            self._is_short = True
            return False
        return True

    def _grow(self) -> None:
        """Maps one more segment, whose blocks on disk are taken first.

        A store into a page that a full disk has no block for would end the process.
        """
        at = len(self._segments) * SEGMENT_BYTES
        os.posix_fallocate(self._descriptor, at, SEGMENT_BYTES)
        self._segments.append(memoryview(mmap.mmap(self._descriptor, SEGMENT_BYTES, offset=at)))

    def close(self) -> None:
        """Lets the lock go; the rows may be written on, and nobody looks at them any more."""
        if self._descriptor >= 0:
            # The maps have duplicates of the descriptor, so closing it would not let the lock go.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1
