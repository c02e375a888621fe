"""A snapshot on disk: what gateways start from without control, and control remembers having said."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from shipway.wire.snapshot import Snapshot


def kept_snapshot(path: Path) -> Snapshot | None:
    """The snapshot in a file; None when there is none, or it cannot be read any more."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def keep_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Writes the snapshot to a file, whole or not at all. A full disk loses only the copy."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        temporary.write_bytes(msgspec.json.encode(snapshot))
        temporary.replace(path)
