"""Bundles on their way in: one directory each, gone when the work with it ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from shipway.store.state import usable_directory


class Staging:
    """The staging directory of a state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def new(self) -> Iterator[Path]:
        """An empty directory, removed with all it holds when the block ends.

        Raises:
            StateUnusable: it cannot be made.
        """
        path = Path(tempfile.mkdtemp(dir=usable_directory(self._directory)))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self, *, unused_since: datetime) -> list[str]:
        """Removes what processes that died left behind before then, and gives the names."""
        if not self._directory.is_dir():
            return []
        old = []
        for path in self._directory.iterdir():
            # What another process works in may be gone by now.
            with suppress(FileNotFoundError):
                if datetime.fromtimestamp(path.stat().st_mtime, tz=UTC) < unused_since:
                    old.append(path.name)
                    shutil.rmtree(path, ignore_errors=True)
        return sorted(old)
