"""A server's processes: start them, find them all, count their CPU time and memory, end them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

_MARK = "BENCH_RUN"
_GRACE_S = 4.0


class Processes:
    """A started command with everything that it started, however it was detached.

    Ours are the descendants of the command, and whatever carries the mark of this run in its
    environment. Only those are ever counted or ended.
    """

    def __init__(
        self, command: Sequence[str], *, variables: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        mark = uuid.uuid4().hex
        self._mark = f"{_MARK}={mark}".encode()
        self.log = log
        with log.open("wb") as output:
            self._first = subprocess.Popen(
                list(command), env={**variables, _MARK: mark}, cwd=cwd, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def has_ended(self) -> bool:
        """Whether the command itself is gone."""
        return self._first.poll() is not None

    def pids(self) -> list[int]:
        """All of ours, now."""
        parents = _parents()
        ours = {pid for pid in parents if pid == self._first.pid or self._is_marked(pid)}
        while found := {pid for pid, parent in parents.items() if parent in ours} - ours:
            ours |= found
        return sorted(ours)

    def cpu_s(self) -> float:
        """User and system time of all of ours so far."""
        ticks = 0
        for pid in self.pids():
            fields = _stat(pid)
            ticks += int(fields[11]) + int(fields[12]) if fields else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def pss_mb(self) -> float:
        """Memory of all of ours: a page that several share counts once, in parts."""
        return sum(_pss_kb(pid) for pid in self.pids()) / 1024

    def stop(self) -> None:
        """Asks the command to end, and kills what is left of ours after a grace."""
        # Noted before: what a detached parent leaves behind is found by this alone.
        noted = {pid: _started(pid) for pid in self.pids()}
        if not self.has_ended():
            self._first.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._first.wait(_GRACE_S)
        until = time.monotonic() + _GRACE_S
        while left := self._left(noted):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._first.poll()
            if time.monotonic() > until:
                raise RuntimeError(f"processes {left} do not end")
            time.sleep(0.05)

    def _left(self, noted: Mapping[int, str]) -> list[int]:
        same = {pid for pid, started in noted.items() if _started(pid) == started}
        return sorted(pid for pid in {*same, *self.pids()} if not _is_zombie(pid))

    def _is_marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes()
        return False


def busy_s() -> float:
    """CPU seconds that this machine's cores did not idle so far, or that its host took from them."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle, waiting = fields[3:5]
    return (sum(fields[:8]) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def children_s() -> float:
    """CPU seconds of this program's own children that have ended, such as load generators."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found[int(entry.name)] = int(fields[1])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the command's name; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return []


def _started(pid: int) -> str:
    """When it started, which tells it from a later process of the same pid; empty when gone."""
    fields = _stat(pid)
    return fields[19] if fields else ""


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return not fields or fields[0] == "Z"


def _pss_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
