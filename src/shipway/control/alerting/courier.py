"""Carries one message out, in a process of its own: `python -m shipway.control.alerting.courier`.

Receivers may be slow, endless or hostile, and Apprise is large: the process has a deadline, and nothing
of control's in its environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Protocol

import msgspec

from shipway.core.addresses import OutboundPolicy
from shipway.core.alerts.channels import COMMAND
from shipway.core.errors import InvalidRequest, ServerUnreachable

TIMEOUT_S = 30.0
_KEPT = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "TZ")


class Way(StrEnum):
    """How it is carried."""

    WEBHOOK = "webhook"
    APPRISE = "apprise"
    COMMAND = "command"


class Tone(StrEnum):
    """How a service shows a message: its colour or picture."""

    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"
    SUCCESS = "success"


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What to carry where. `headers` are for webhooks, `body` too and for programs, the last three for Apprise."""

    way: Way
    url: str
    policy: OutboundPolicy
    headers: dict[str, str] = {}
    body: bytes = b""
    title: str = ""
    text: str = ""
    tone: Tone = Tone.INFO


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. `fault` is empty when it was taken; with `for_good` it never will be."""

    fault: str = ""
    for_good: bool = False


class Carrier(Protocol):
    """Carries parcels out."""

    def carry(self, parcel: Parcel) -> None:
        """Carries one out. Blocks, for a bounded time.

        Raises:
            InvalidRequest: it may not be carried there, or never will be taken.
            ServerUnreachable: it was not taken now.
        """
        ...

    def close(self) -> None:
        """Ends what is under way, as not taken; nothing is carried afterwards."""
        ...


class Courier:
    """A `Carrier` that starts a process for each parcel. Thread-safe.

    `commands` is the directory of the programs that may be run.
    """

    def __init__(self, commands: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._commands = commands
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def carry(self, parcel: Parcel) -> None:
        """See `Carrier`."""
        with self._started() as process:
            try:
                answer, _ = process.communicate(msgspec.json.encode(parcel), self._timeout_s)
            except subprocess.TimeoutExpired as exc:
                raise ServerUnreachable(f"It was not taken within {self._timeout_s:g} s.") from exc
        if process.returncode != 0:
            raise ServerUnreachable(f"Its courier ended with {process.returncode}.")
        receipt = msgspec.json.decode(answer, type=Receipt)
        if receipt.fault:
            raise (InvalidRequest if receipt.for_good else ServerUnreachable)(receipt.fault)

    def close(self) -> None:
        """See `Carrier`."""
        with self._lock:
            self._is_closed = True
            for process in self._running:
                process.kill()

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        """A process; it has ended when the block does."""
        with self._lock:
            if self._is_closed:
                raise ServerUnreachable("Control is ending.")
            process = subprocess.Popen(
                [sys.executable, "-m", "shipway.control.alerting.courier", self._commands],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(os.environ),
            )
            self._running.add(process)
        try:
            with process:
                try:
                    yield process
                finally:
                    process.kill()
        finally:
            with self._lock:
                self._running.discard(process)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {name: own[name] for name in _KEPT if name in own}


def carried(parcel: Parcel, commands: Path) -> Receipt:
    """What becomes of a parcel, in this process."""
    if parcel.way is Way.COMMAND:
        from shipway.control.alerting.commanding import ran

        return Receipt(fault=ran(commands / parcel.url.removeprefix(COMMAND), parcel.body))
    if parcel.way is Way.WEBHOOK:
        from shipway.control.alerting.webhooks import posted

        return _receipt(posted(parcel.url, parcel.headers, parcel.body, parcel.policy))
    from shipway.control.alerting.apprising import notified

    return _receipt(notified(parcel))


def _receipt(found: tuple[str, bool]) -> Receipt:
    fault, for_good = found
    return Receipt(fault=fault, for_good=for_good)


def main() -> None:
    """Carries the parcel on stdin; the receipt is on stdout."""
    parcel = msgspec.json.decode(sys.stdin.buffer.read(), type=Parcel)
    answer = msgspec.json.encode(carried(parcel, Path(sys.argv[1])))
    os.write(1, answer)


if __name__ == "__main__":
    main()
