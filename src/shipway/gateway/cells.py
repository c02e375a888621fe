"""The mapped file in which the gateways of one machine count together, its lock, and who takes part.

Each gateway holds an exclusive `flock` on the file of its slot for as long as it lives; the kernel lets
go of it when the process ends, however it ends. The lock of the file itself is held for one decision.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from shipway.wire.processes import is_stopped
from shipway.wire.uses import (
    CELL_BYTES,
    FREE,
    INSIDE,
    MAGIC,
    NAME_BYTES,
    SLOTS,
    cell_of,
    digest_of,
    is_sound,
    name_in,
    use_in,
)

LEDGER = "ledger.bin"
SEGMENT_CELLS = 128
SEGMENT_BYTES = SEGMENT_CELLS * CELL_BYTES
"""The file grows by so much: whole pages, whatever their size."""

LOOK_AFTER_S = 0.02
PATIENCE_S = 5.0
"""Nobody waits longer for the lock: whatever its holder does, requests go on."""

HOLDER_AT = 8
"""Where the file has the number of the process that holds its lock."""


class FileLock:
    """An exclusive lock on an open file; a context manager to be used again.

    It is entered in any case: `is_held` says whether alone. The holder has it for microseconds, and as much
    longer as it waits for a processor; the kernel takes it from one that ends. Only one that was stopped
    (SIGSTOP) must not stop everybody else. `holder` is where the file has the number of its process.
    """

    __slots__ = ("_descriptor", "_holder", "is_held")

    def __init__(self, descriptor: int, holder: memoryview[int]) -> None:
        self._descriptor = descriptor
        self._holder = holder
        self.is_held = True

    def __enter__(self) -> FileLock:
        was_held = self.is_held
        self.is_held = taken(self._descriptor) or self._waited(LOOK_AFTER_S if was_held else 0.0)
        if self.is_held:
            self._holder[0] = os.getpid()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_held:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _waited(self, look_after_s: float) -> bool:
        """Whether the lock is ours, after as long as it took; the holder is looked at after a while."""
        begun = monotonic()
        look_at, until = begun + look_after_s, begun + PATIENCE_S
        while (now := monotonic()) < until:
            if now >= look_at:
                if is_stopped(self._holder[0]):
                    return False
                look_at = now + LOOK_AFTER_S
            sleep(0)
            if taken(self._descriptor):
                return True
        return False


def taken(descriptor: int) -> bool:
    """Whether the lock of the file is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Cells:
    """The cells that this gateway shares with the others of its machine."""

    def __init__(self, directory: Path, *, since_day: int) -> None:
        """Opens or makes the file, and takes a slot.

        Cells that were not used since that day are freed, where no other gateway lives.

        Raises:
            OSError: the directory cannot be written, or all slots are taken.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._segments: list[memoryview] = []
        self._known: dict[bytes, int] = {}
        self._next = 1
        self._slot_lock = -1
        self.slot = -1
        self.descriptor = os.open(directory / LEDGER, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._grow()
            holder = self._segments[0][HOLDER_AT : HOLDER_AT + 8].cast("Q")
            self.lock = FileLock(self.descriptor, holder)
            with self.lock:
                self._take_slot()
                self._map()
                if self.lock.is_held and self._is_alone():
                    self._tidy(since_day)
                self._leave_all()
        except OSError:
            self.close()
            raise

    def cell(self, whose: str, name: str) -> memoryview[float] | None:
        """The cell of that name, made at its first mention; None when there is no room. Needs the lock."""
        digest = digest_of(whose, name)
        try:
            number = self._number_of(digest)
        except OSError:
            return None
        segment, place = divmod(number, SEGMENT_CELLS)
        return cell_of(self._segments[segment], place)

    def _number_of(self, digest: bytes) -> int:
        """The place of a digest's cell; a free one is taken for it.

        Raises:
            OSError: the file cannot grow.
        """
        while digest not in self._known:
            if self._next >= len(self._segments) * SEGMENT_CELLS:
                self._grow()
            segment, place = divmod(self._next, SEGMENT_CELLS)
            data = self._segments[segment]
            found = name_in(data, place)
            if found == FREE:
                data[place * CELL_BYTES : place * CELL_BYTES + NAME_BYTES] = found = digest
            self._known[found] = self._next
            self._next += 1
        return self._known[digest]

    def is_alive(self, slot: int) -> bool:
        """Whether the gateway of a slot lives."""
        if slot == self.slot:
            return True
        try:
            descriptor = os.open(self._slot_path(slot), os.O_RDWR)
        except OSError:
            return False
        try:
            return not taken(descriptor)
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Writes what changed to disk. May run in any thread."""
        with suppress(OSError):
            os.fsync(self.descriptor)

    def close(self) -> None:
        """Gives the slot back; cells that were given out stay valid; idempotent."""
        for descriptor in (self._slot_lock, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._slot_lock = self.descriptor = -1

    def _slot_path(self, slot: int) -> Path:
        return self._directory / f"slot-{slot:02}.lock"

    def _take_slot(self) -> None:
        for slot in range(SLOTS):
            descriptor = os.open(self._slot_path(slot), os.O_RDWR | os.O_CREAT, 0o600)
            if taken(descriptor):
                self.slot, self._slot_lock = slot, descriptor
                return
            os.close(descriptor)
        raise OSError(f"{SLOTS} gateways count there already")

    def _is_alone(self) -> bool:
        return not any(self.is_alive(slot) for slot in range(SLOTS) if slot != self.slot)

    def _map(self) -> None:
        """Maps what is there."""
        while self._mapped() < os.fstat(self.descriptor).st_size:
            self._grow()
        head = self._segments[0]
        if bytes(head[: len(MAGIC)]) != MAGIC:
            self._clear()
            head[: len(MAGIC)] = MAGIC

    def _mapped(self) -> int:
        return len(self._segments) * SEGMENT_BYTES

    def _grow(self) -> None:
        """Maps one segment more; its blocks on disk are taken first, where nobody took them yet.

        A store into a page that a full disk has no block for would end the process.
        """
        at = self._mapped()
        os.posix_fallocate(self.descriptor, at, SEGMENT_BYTES)
        self._segments.append(memoryview(mmap.mmap(self.descriptor, SEGMENT_BYTES, offset=at)))

    def _clear(self) -> None:
        for segment in self._segments:
            segment[:] = bytes(SEGMENT_BYTES)

    def _tidy(self, since_day: int) -> None:
        """Frees the cells that have not been used since a day, or make no sense."""
        kept: list[bytes] = []
        for data, number in self._places():
            cell = cell_of(data, number)
            if name_in(data, number) != FREE and is_sound(cell) and use_in(cell).day >= since_day:
                kept.append(bytes(data[number * CELL_BYTES : (number + 1) * CELL_BYTES]))
        self._clear()
        self._segments[0][: len(MAGIC)] = MAGIC
        for content, (data, number) in zip(kept, self._places(), strict=False):
            data[number * CELL_BYTES : (number + 1) * CELL_BYTES] = content

    def _leave_all(self) -> None:
        """Nothing is under way in this gateway, whatever its slot's last owner left there."""
        for data, number in self._places():
            cell_of(data, number)[INSIDE + self.slot] = 0.0

    def _places(self) -> list[tuple[memoryview, int]]:
        """Where cells can be, in order; the first is the file's own."""
        return [(data, number) for data in self._segments for number in range(SEGMENT_CELLS)][1:]
