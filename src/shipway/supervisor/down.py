"""Ends a server, and whatever an earlier one left behind."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from shipway.backends.identity import ProcessIdentity, arguments_of
from shipway.backends.records import end_all
from shipway.supervisor import records

STOP_LIMIT_S = 45.0
"""A supervisor that still runs so long after SIGTERM is killed; the leftovers are ended by record."""

LEFTOVER_GRACE_S = 8.0
_POLL_S = 0.02


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """What was ended. `leftovers` counts processes that an earlier server had left behind."""

    was_running: bool
    leftovers: int


class _ProcessRecord(msgspec.Struct):
    pid: int


def down(state_dir: Path) -> Stopped:
    """Ends the server of a state directory and all its processes. Blocks. Idempotent."""
    state_dir = state_dir.absolute()
    server = records.running(state_dir)
    if server is not None:
        _end(server.process)
    leftovers = end_leftovers(state_dir, with_replicas=True) if (state_dir / "run").exists() else 0
    records.drop(state_dir)
    return Stopped(was_running=server is not None, leftovers=leftovers)


def end_leftovers(state_dir: Path, *, with_replicas: bool) -> int:
    """Ends gateways and control of a supervisor that was killed; gives how many there were.

    Replicas are ended only when asked: the next control takes them over.
    """
    run = state_dir / "run"
    records_left = [*run.glob("control.json"), *run.glob("gateway-*.json")]
    left = [process for path in records_left if (process := _process_of(path)) is not None]
    for process in left:
        process.signal(signal.SIGTERM)
    _wait(left, LEFTOVER_GRACE_S)
    for process in left:
        process.signal(signal.SIGKILL)
    for path in records_left:
        path.unlink(missing_ok=True)
    replicas = end_all(state_dir, grace_s=LEFTOVER_GRACE_S) if with_replicas else 0
    return len(left) + replicas


def _process_of(path: Path) -> ProcessIdentity | None:
    """The live process of a record, if it does serve this directory: numbers are used again."""
    try:
        pid = msgspec.json.decode(path.read_bytes(), type=_ProcessRecord).pid
    except (OSError, msgspec.MsgspecError):
        return None
    serves_it = str(path.parents[1]) in arguments_of(pid)
    return ProcessIdentity.of(pid) if serves_it else None


def _end(process: ProcessIdentity) -> None:
    process.signal(signal.SIGTERM)
    _wait([process], STOP_LIMIT_S)
    process.signal(signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(process.pid, 0)


def _wait(processes: list[ProcessIdentity], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
