"""The logs of child processes: files that they append to, bounded by those who read them."""

from __future__ import annotations

import os
from pathlib import Path

LIMIT_BYTES = 64 * 1024 * 1024
"""A log that has grown beyond is cut."""

KEPT_BYTES = 8 * 1024 * 1024
"""So much of its end is kept, beside it in `<name>.1`."""


def bound_logs(directory: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
    """Cuts every `*.log` below the directory that is over the limit.

    The writers go on in the same, emptied file: they append, so no position of theirs is lost. Lines
    written between the copy and the cut are. A log that vanishes meanwhile is no error.
    """
    for log in directory.rglob("*.log"):
        try:
            if log.stat().st_size > limit_bytes:
                _cut(log)
        except OSError:
            continue


def _cut(log: Path) -> None:
    try:
        before(log).write_bytes(_tail(log, KEPT_BYTES))
    finally:
        os.truncate(log, 0)  # on a full disk too, where room is what is needed most


def before(log: Path) -> Path:
    """Where the end of a log is kept once it was cut."""
    return log.with_name(f"{log.name}.1")


def end_of(log: Path, size_bytes: int) -> str:
    """The last bytes of a log as text, those before a cut included; empty when there is none."""
    text = _tail(log, size_bytes)
    if len(text) < size_bytes:
        text = _tail(before(log), size_bytes - len(text)) + text
    return text.decode(errors="replace")


def _tail(path: Path, size_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(-min(size_bytes, path.stat().st_size), os.SEEK_END)
            return stream.read(size_bytes)
    except OSError:
        return b""
