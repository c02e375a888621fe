"""Control groups that count the processes of a replica, where the machine lets us make them.

The kernel's limit on processes does not bind root, and counts all processes of another user together;
a `pids` control group counts those of one replica, whoever runs it. See cgroups(7).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

_ENDING_S = 2.0
_POLL_S = 0.01


class ProcessGroups:
    """The groups of the replicas of one state directory; none where `is_available` is False."""

    def __init__(self, state_dir: Path) -> None:
        self._prefix = f"shipway-{sha256(os.fsencode(state_dir.absolute())).hexdigest()[:8]}-"
        self._parent = next(_parents(), None)

    @property
    def is_available(self) -> bool:
        """Whether a group can be made; found out by making one."""
        try:
            self.make("probe", 8)
        except OSError:
            return False
        self.drop("probe")
        return True

    def make(self, replica_id: str, processes: int) -> Path:
        """Makes the replica's group, for at most so many processes and threads, and gives its path.

        Raises:
            OSError: it cannot be made.
        """
        group = self._of(replica_id)
        group.mkdir(exist_ok=True)
        (group / "pids.max").write_text(str(processes))
        return group

    def drop(self, replica_id: str) -> None:
        """Ends what is left in the replica's group and removes it. Idempotent."""
        if self._parent is not None:
            _remove(self._of(replica_id))

    def keep_only(self, replica_ids: Container[str]) -> None:
        """Removes all others, whose replicas ended while nobody looked."""
        for group in self._parent.glob(f"{self._prefix}*") if self._parent is not None else ():
            if group.name.removeprefix(self._prefix) not in replica_ids:
                _remove(group)

    def _of(self, replica_id: str) -> Path:
        if self._parent is None:
            raise FileNotFoundError("There is no `pids` controller.")
        return self._parent / f"{self._prefix}{replica_id}"


def _remove(group: Path) -> None:
    """Ends what is left in the group and removes it; what does not end in time, the next one removes."""
    deadline = time.monotonic() + _ENDING_S
    while group.is_dir() and time.monotonic() < deadline:
        with suppress(OSError):
            for pid in _text(group / "cgroup.procs").split():
                os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(_POLL_S)


def _parents() -> Iterator[Path]:
    """Where our groups would be: below our own group, or in version 2 beside it, as its rules ask."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "pids" in controllers.split(","):
            yield from (place / path.lstrip("/") for place in _mounted("cgroup", "pids"))
        elif not controllers:
            for place in _mounted("cgroup2", ""):
                beside = (place / path.lstrip("/")).parent if path != "/" else place
                if "pids" in _text(beside / "cgroup.subtree_control").split():
                    yield beside


def _mounted(kind: str, option: str) -> Iterator[Path]:
    """Where file systems of that kind, with that option, are attached; see proc(5)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, about = line.partition(" - ")
        found, _, options = about.split(" ", 2)
        if found == kind and (not option or option in options.split(",")):
            yield Path(place.split(" ")[4])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
