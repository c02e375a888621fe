"""The other gateways of this machine, by the counters that they share, and what the ended ones left."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from shipway.core.telemetry import Name, Rows, Slots, merged, settled
from shipway.wire.counters import (
    Past,
    blocks,
    encoded_past,
    is_counters,
    parsed,
    parsed_past,
    pid_of,
    values_of,
)

PAST = "past.bin"
LOCK = "past.lock"
REMEMBERED = 256
"""The past names so many files that it took in and removed: a reader may hold one of them still."""

FOLD_EVERY_S = 5.0
"""A fold that failed, for want of disk space, is tried again after so long."""


class _Neighbour:
    """The file of another gateway, mapped."""

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            OSError, ValueError: it is gone, or empty.
        """
        self.values: dict[Name, memoryview[float]] = {}
        self._next = 1
        self._size = 0
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self._map()
        except (OSError, ValueError):
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether its owner lives; asking does not disturb it."""
        return not _is_free(self._descriptor)

    @property
    def is_counters(self) -> bool:
        """Whether it is what it should be."""
        return is_counters(self._data)

    @property
    def pid(self) -> int:
        """Its process; 0 when it does not say."""
        return pid_of(self._data)

    def look(self) -> None:
        """Finds the rows that are new."""
        if os.fstat(self._descriptor).st_size > self._size:
            self._map()
        for number, name in blocks(self._data, self._next):
            self.values[name] = values_of(self._data, number)
            self._next = number + 1

    def rows(self) -> Rows:
        """Its counts, as they are now."""
        return parsed(self._data)

    def _map(self) -> None:
        whole = os.fstat(self._descriptor).st_size
        self._data = memoryview(mmap.mmap(self._descriptor, whole, access=mmap.ACCESS_READ))
        self._size = whole

    def close(self) -> None:
        """Lets the file go; views of its rows stay valid."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Neighbours:
    """All counter files of a directory but one's own. `rows` and `fold` may run in any thread."""

    def __init__(self, directory: Path, own: str) -> None:
        self._directory = directory
        self._own = own
        self._alive: dict[str, _Neighbour] = {}
        self._has_dead = False
        self._fold_at = 0.0

    @property
    def number(self) -> int:
        """How many live, as of the last look."""
        return len(self._alive)

    def processes(self) -> dict[str, int]:
        """The process numbers of those that live, by the gateway's id."""
        return {name.rpartition("-")[0]: one.pid for name, one in self._alive.copy().items()}

    def values(self, name: Name) -> tuple[Slots, ...]:
        """The rows of that name in those that live, as they change."""
        rows = (one.values.get(name) for one in self._alive.values())
        return tuple(row for row in rows if row is not None)

    def look(self) -> None:
        """Takes new ones in and drops those that have ended.

        Raises:
            OSError: the directory cannot be read.
        """
        self._has_dead = False
        present = set(self._names())
        for name in self._alive.keys() - present:
            self._alive.pop(name).close()
        for name in present:
            self._look_at(name)

    def _look_at(self, name: str) -> None:
        one = self._alive.pop(name, None) or self._opened(name)
        if one is None:
            return
        try:
            if one.is_alive:
                one.look()
                self._alive[name] = one
                return
        except (OSError, ValueError):
            pass
        one.close()
        self._has_dead = True

    def _opened(self, name: str) -> _Neighbour | None:
        """The file of that name; None when it is gone, or nobody's counters."""
        try:
            one = _Neighbour(self._directory / name)
        except (OSError, ValueError):
            return None
        if one.is_counters:
            return one
        one.close()
        return None

    def may_fold(self) -> bool:
        """Whether one has ended whose file is still there, and folding it was not tried just now."""
        return self._has_dead and monotonic() >= self._fold_at

    def rows(self) -> Iterator[Rows]:
        """The counts of every other gateway, ended ones included, each once."""
        # The past is read last: a file that is folded meanwhile is found in one of the two.
        try:
            files = self._read(if_dead=False)
        except OSError:
            return
        try:
            past = self._past()
        except OSError:
            past = Past()
        yield past.rows
        yield from (rows for name, rows in files.items() if name not in past.folded)

    def fold(self) -> None:
        """Moves the counts of those that have ended to the past. Nothing is lost where it stops."""
        self._fold_at = monotonic() + FOLD_EVERY_S
        with suppress(OSError), _locked(self._directory / LOCK):
            past = self._past()
            dead = self._read(if_dead=True)
            new = [name for name in dead if name not in past.folded]
            if new:
                folded = (*past.folded, *new)
                kept = [name for name in folded[:-REMEMBERED] if name in dead]
                rows = merged([past.rows, *(dead[name] for name in new)])
                self._write(Past(folded=(*kept, *folded[-REMEMBERED:]), rows=rows))
            for name in dead:
                (self._directory / name).unlink(missing_ok=True)
            self._fold_at = 0.0

    def _read(self, *, if_dead: bool) -> dict[str, Rows]:
        read = ((name, self._rows_of(name, if_dead=if_dead)) for name in self._names())
        return {name: rows for name, rows in read if rows is not None}

    def _write(self, past: Past) -> None:
        temporary = self._directory / f".{PAST}"
        temporary.write_bytes(encoded_past(past))
        temporary.replace(self._directory / PAST)

    def _past(self) -> Past:
        """The past; an empty one when there is none.

        Raises:
            OSError: there is one, and it cannot be read now: it must not be replaced.
        """
        try:
            return parsed_past((self._directory / PAST).read_bytes())
        except FileNotFoundError:
            return Past()

    def _names(self) -> list[str]:
        with os.scandir(self._directory) as entries:
            names = [entry.name for entry in entries]
        others = (name for name in names if name not in (self._own, PAST))
        return [name for name in others if name.endswith(".bin") and not name.startswith(".")]

    def _rows_of(self, name: str, *, if_dead: bool = False) -> Rows | None:
        """The rows in a file, those of one that has ended with no request inside.

        None when it is gone, or nobody's, or of one that lives while dead ones are asked for.
        """
        one = self._opened(name)
        if one is None:
            return None
        try:
            if one.is_alive:
                return None if if_dead else one.rows()
            return settled(one.rows())
        finally:
            one.close()

    def close(self) -> None:
        """Lets all files go; idempotent."""
        for one in self._alive.values():
            one.close()
        self._alive = {}


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock of the past.

    Raises:
        OSError: somebody else holds it, or it cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
