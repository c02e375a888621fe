"""Processes by number and start time, so that a reused number is never taken for the old process."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from signal import Signals

import msgspec

_PROC = Path("/proc")
_STATE, _START = 0, 19


class ProcessIdentity(msgspec.Struct, frozen=True):
    """One process for ever. `start` is the kernel's start time, in ticks since boot."""

    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The process that has this number now; None when there is none, or it has ended."""
        fields = _stat_of(pid)
        return None if fields is None else cls(pid, fields[_START])

    def is_alive(self) -> bool:
        """Whether this very process runs. A zombie does not."""
        return ProcessIdentity.of(self.pid) == self

    def signal(self, number: Signals) -> bool:
        """Sends the signal to the process; False when it is gone."""
        return self.is_alive() and _sent(os.kill, self.pid, number)

    def signal_group(self, number: Signals) -> bool:
        """Sends the signal to the process group that it leads; False when it is gone."""
        return self.is_alive() and _sent(os.killpg, self.pid, number)


def with_option(option: str, value: str) -> ProcessIdentity | None:
    """The process that was started with exactly this option and value on its command line."""
    for entry in _PROC.glob("[0-9]*"):
        if (option, value) in pairwise(arguments_of(int(entry.name))):
            return ProcessIdentity.of(int(entry.name))
    return None


def arguments_of(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone."""
    try:
        line = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(argument) for argument in line.split(b"\0")]


def _stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, from the state on (proc(5))."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" else fields


def _sent(send: Callable[[int, int], None], pid: int, number: Signals) -> bool:
    try:
        send(pid, number)
    except ProcessLookupError:
        return False
    return True
