"""Waiting for processes and for long work, without holding up the loop or an exit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from shipway.backends.identity import ProcessIdentity

T = TypeVar("T")


async def end_when(stop: asyncio.Event, process: ProcessIdentity, *, grace_s: float) -> None:
    """Once `stop` is set: SIGTERM, and SIGKILL to the whole group when the grace is over."""
    await stop.wait()
    process.signal_group(signal.SIGTERM)
    await asyncio.sleep(grace_s)
    process.signal_group(signal.SIGKILL)


async def ended(pid: int) -> None:
    """Returns when the process has ended, whoever its parent is."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(pidfd, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def reaped(pid: int) -> str:
    """Collects an ended child, ends what is left of its group, and says how it ended."""
    try:
        # Its number cannot be reused before it is collected, so the group is still its own.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return "It ended."
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"It was ended by signal {-code} ({signal.Signals(-code).name})."
    return f"It ended with exit code {code}."


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """The result, never None, of blocking work that may last for minutes and must not hold up an exit."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if value is not None:
            result.set_result(value)
        else:
            result.set_exception(error or RuntimeError("no result"))

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except Exception as exc:  # noqa: BLE001 - the thread's outermost frame carries it over
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True, name="environment").start()
    return await result
