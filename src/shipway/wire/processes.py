"""What a process takes of its machine, as the kernel says (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_USER, _SYSTEM, _RESIDENT = 11, 12, 1


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Processor time since the process began, and resident memory now."""

    cpu_s: float
    memory_bytes: int


def use_of(pid: int) -> Use | None:
    """What the process takes; None when it has ended."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = Path(f"/proc/{pid}/statm").read_text().split()
        return Use(
            cpu_s=(int(ticks[_USER]) + int(ticks[_SYSTEM])) / os.sysconf("SC_CLK_TCK"),
            memory_bytes=int(pages[_RESIDENT]) * os.sysconf("SC_PAGE_SIZE"),
        )
    except (OSError, IndexError, ValueError):
        return None


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP, or by a debugger) and goes on when somebody says so."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return state.rpartition(b")")[2][:3].strip() in (b"T", b"t")
