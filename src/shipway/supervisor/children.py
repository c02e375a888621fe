"""One child process, started again when it dies, ended when the supervisor ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from shipway.core.backoff import pause_s
from shipway.core.errors import Bug, ShipwayError
from shipway.core.failures import last_line, last_word

STABLE_S = 30.0
"""A child that ran for so long begins a new row of failures."""

_PR_SET_PDEATHSIG = 1
_LOG_TAIL_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `grace_s` is how long it may take to end after SIGTERM."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    grace_s: float


class Child:
    """Keeps one child process running. Used from the main thread's event loop.

    A child that dies before the server was ready once is not started again: its last word is the
    server's failure.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self._was_ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = spec.log.stat().st_size if spec.log.exists() else 0

    def note_ready(self) -> None:
        """From now on the child is started again when it dies."""
        self._was_ready.set()

    async def keep_running(self) -> None:
        """Starts the child, and starts it again, until cancelled; then ends it.

        Raises:
            ShipwayError: it died before it was ready, with its own reason.
        """
        failures = 0
        try:
            while True:
                started = time.monotonic()
                self._process = await self._started()
                code = await self._process.wait()
                if not self._was_ready.is_set():
                    raise self._failure(code)
                failures = 0 if time.monotonic() - started > STABLE_S else failures + 1
                _log.warning("%s ended with code %s; it is started again", self.spec.name, code)
                await asyncio.sleep(pause_s(failures - 1))
        finally:
            await asyncio.shield(self._end())

    async def _started(self) -> asyncio.subprocess.Process:
        with self.spec.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self.spec.environment),
                # Ctrl-C reaches the supervisor only: it ends the others in their order.
                process_group=0,
                preexec_fn=_dies_with_parent(),
            )

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.spec.grace_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _failure(self, code: int) -> ShipwayError:
        text = log_text(self.spec.log, self._log_start)
        said = last_word(text)
        if said is not None:
            return said.as_error()
        return Bug(
            f"The {self.spec.name} process ended with code {code}: {last_line(text)}",
            next_step=f"Its log is `{self.spec.log}`.",
        )


def log_text(log: Path, start: int) -> str:
    """What was written to a log from that offset on, at most its last 64 KiB."""
    with log.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(start, size - _LOG_TAIL_BYTES))
        return stream.read().decode(errors="replace")


def _dies_with_parent() -> Callable[[], None]:
    """What a child runs first: the kernel sends it SIGTERM when the supervisor is killed."""
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:
            os._exit(1)

    return ask
