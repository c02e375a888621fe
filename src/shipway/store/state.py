"""The state directory: there, and writable, before anything else is tried."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from shipway.core.errors import StateUnusable


def usable_directory(path: Path) -> Path:
    """The absolute path of a directory that exists and can be written; makes it when missing.

    Raises:
        StateUnusable: it cannot be made or written, or its disk is full.
    """
    absolute = path.absolute()
    try:
        absolute.mkdir(parents=True, exist_ok=True)
        # Permission bits do not tell the truth about read-only mounts, quotas and full disks.
        with tempfile.TemporaryFile(dir=absolute) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as exc:
        raise StateUnusable(
            f"The state directory `{absolute}` cannot be used: {exc.strerror or exc}.",
            next_step="Make it writable, free some space, or name another with `--dir`.",
            directory=str(absolute),
        ) from exc
    return absolute
