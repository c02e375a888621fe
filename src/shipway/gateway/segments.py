"""Files of the spool: `<gateway>-<random>.seg`, appended to by the one process that holds its lock.

The kernel lets go of a lock when its process ends, however it ends. So a segment whose lock is free is
complete: its gateway has sealed it, or is no more. Whoever locks it then may send it to control and
remove it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shipway.wire.spool import HEAD_BYTES, ID_BYTES, end_payload, frame, segment_head

SUFFIX = ".seg"


class OpenSegment:
    """The segment that this process writes. Not for two threads at once."""

    def __init__(self, directory: Path, gateway: str) -> None:
        """Makes it; others see it locked and with its head from the first moment.

        Raises:
            OSError: it cannot be made; nothing is left of it.
        """
        segment_id = secrets.token_bytes(ID_BYTES)
        owner = re.sub(r"[^A-Za-z0-9._-]", "_", gateway)[:64].lstrip(".")
        self.path = directory / f"{owner}-{segment_id.hex()}{SUFFIX}"
        self.size_bytes = HEAD_BYTES
        self._frames = 0
        draft = directory / f".{self.path.name}"
        self._descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        is_made = False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_at(self._descriptor, segment_head(segment_id), 0)
            draft.rename(self.path)
            is_made = True
        finally:
            if not is_made:
                self.close()
                draft.unlink(missing_ok=True)
        with suppress(OSError):
            _sync_directory(directory)

    def append(self, frames: bytes, count: int) -> None:
        """Writes so many frames, all of them or none.

        Raises:
            OSError: they are not written; what was there before is whole.
        """
        try:
            _write_at(self._descriptor, frames, self.size_bytes)
        except OSError:
            self.cut(self.size_bytes)
            raise
        self.size_bytes += len(frames)
        self._frames += count

    def cut(self, size_bytes: int) -> None:
        """Takes away what is behind so many bytes; where even that fails, readers do it."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, size_bytes)

    def sync(self) -> None:
        """Returns when all that was written is on the disk, as far as fdatasync goes.

        Raises:
            OSError: it may not be, and no later call will say so.
        """
        os.fdatasync(self._descriptor)

    def seal(self) -> None:
        """Ends the segment and lets its lock go. One that cannot be ended is whole without; idempotent."""
        if self._descriptor < 0:
            return
        try:
            with suppress(OSError):
                self.append(frame(end_payload(self._frames)), 0)
        finally:
            self.close()

    def close(self) -> None:
        """Lets the file go as it is; idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(
                OSError
            ):  # Linux lets it go all the same: a second time would be another's
                os.close(descriptor)


def _write_at(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def _sync_directory(directory: Path) -> None:
    """So that the names in it outlive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def used_bytes(directory: Path) -> int:
    """What the segments of all gateways of the machine take, refused ones too."""
    return sum(stat.st_size for _, stat in _files(directory))


def complete(directory: Path) -> list[Path]:
    """The names of segments that may be complete, oldest first. Whether they are, `locked` finds out."""
    found = [(stat.st_mtime, name) for name, stat in _files(directory, suffix=SUFFIX)]
    return [directory / name for _, name in sorted(found)]


def _files(directory: Path, *, suffix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Each file that is no draft: its name, and what the disk says of it."""
    # One that was sent is gone meanwhile.
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.endswith(suffix):
                with suppress(OSError):
                    yield entry.name, entry.stat()


@contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """The descriptor of a complete segment, held alone; None for one that is written, held or gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield descriptor if _is_taken(descriptor, path) else None
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it before may have sent and removed it.
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except OSError:
        return False
