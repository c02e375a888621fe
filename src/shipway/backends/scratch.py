"""`run/scratch/`: one private directory per replica, its home and temporary directory; gone with it."""

from __future__ import annotations

import shutil
from collections.abc import Container
from pathlib import Path


class ScratchDirectory:
    """The private directories of the replicas of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir.absolute() / "run" / "scratch"

    def of(self, replica_id: str) -> Path:
        """Where the replica's is."""
        return self._directory / replica_id

    def make(self, replica_id: str) -> Path:
        """Makes it, empty and closed to other users, and gives its path.

        Raises:
            OSError: it cannot be made.
        """
        self.drop(replica_id)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory = self.of(replica_id)
        directory.mkdir(mode=0o700)
        return directory

    def drop(self, replica_id: str) -> None:
        """Removes it with all that the model has left there. Idempotent; may take long."""
        shutil.rmtree(self.of(replica_id), ignore_errors=True)

    def keep_only(self, replica_ids: Container[str]) -> None:
        """Removes all others, whose replicas ended while nobody looked."""
        if not self._directory.is_dir():
            return
        for entry in self._directory.iterdir():
            if entry.name not in replica_ids:
                self.drop(entry.name)
