"""The room that there is on disks."""

from __future__ import annotations

import os
from pathlib import Path

from shipway.core.health import DiskFacts


def disk_facts(purpose: str, path: Path) -> DiskFacts:
    """What is left on the disk that a directory is on, for users other than root.

    Raises:
        OSError: there is no such directory.
    """
    found = os.statvfs(path)
    return DiskFacts(
        purpose=purpose,
        path=str(path),
        free_bytes=found.f_bavail * found.f_frsize,
        total_bytes=found.f_blocks * found.f_frsize,
        free_files=found.f_favail,
        total_files=found.f_files,
    )
