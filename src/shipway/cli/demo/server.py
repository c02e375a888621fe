"""The demo's server: `shipway up` in a process of its own, and proof that it is gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

from shipway.client.discovery import up_record
from shipway.client.synchronous import Client
from shipway.core.errors import ServerUnreachable
from shipway.store.api_keys import ADMIN, key_path

_START_TIMEOUT_S = 40.0
_END_TIMEOUT_S = 20.0
_POLL_S = 0.05


class Server:
    """`shipway up` on free ports and a state directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.state_dir = directory / "state"
        self._log = directory / "up.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._pids: set[int] = set()

    def start(self) -> Client:
        """Starts the server, and a client of it once it answers.

        Raises:
            ServerUnreachable: it ended, or did not answer in time; its last lines are in the message.
        """
        command = [sys.executable, "-m", "shipway.cli", "up", "--dir", str(self.state_dir)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--port", "0", "--grpc-port", "0", "--control-port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                # Ctrl-C goes to the demo alone, which ends the server in its own order.
                start_new_session=True,
            )
        deadline = monotonic() + _START_TIMEOUT_S
        while self._process.poll() is None and monotonic() < deadline:
            if up_record(self.state_dir) is not None:
                return Client(state_dir=self.state_dir)
            sleep(_POLL_S)
        raise ServerUnreachable(
            f"The demo's server did not start: {self._last_lines()}",
            next_step="Try `shipway up` by itself.",
        )

    @property
    def key(self) -> str:
        """The key that the server made for its owner."""
        return key_path(self.state_dir, ADMIN).read_text().strip()

    @property
    def process_count(self) -> int:
        """How many processes the server had, as last counted."""
        return len(self._pids)

    def wait(self) -> None:
        """Returns when the server has ended."""
        if self._process is not None:
            self._process.wait()

    def _remember(self) -> None:
        """Notes which processes belong to the server, to know them after it has ended."""
        if self._process is not None:
            self._pids |= {self._process.pid, *descendants(self._process.pid), *self._replicas()}

    def end(self) -> None:
        """Ends the server and waits for it. Calling it again does nothing."""
        if self._process is None:
            return
        self._remember()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def left_behind(self) -> list[int]:
        """The server's processes that still run, a moment after its end."""
        deadline = monotonic() + 3.0
        while (left := [pid for pid in self._pids if _runs(pid)]) and monotonic() < deadline:
            sleep(_POLL_S)
        return left

    def _replicas(self) -> set[int]:
        with Client(state_dir=self.state_dir) as client:
            try:
                endpoints = client.endpoints()
            except ServerUnreachable:
                return set()
        return {r.pid for endpoint in endpoints for r in endpoint.replicas if r.pid}

    def _last_lines(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-5:]) or "it said nothing."


def _environment() -> dict[str, str]:
    """The environment without this machine's Shipway settings: the demo has its own.

    Its alerts may call the demo itself, over plain HTTP on this machine.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("SHIPWAY_")}
    return own | {"SHIPWAY_OUTBOUND_NETWORKS": "127.0.0.0/8", "SHIPWAY_OUTBOUND_HTTP": "true"}


def descendants(pid: int) -> set[int]:
    """The processes that a process started, and those they started; empty without `/proc`."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold spaces; state and parent follow it.
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    found: set[int] = set()
    layer = {pid}
    while layer := {child for child, parent in parents.items() if parent in layer} - found:
        found |= layer
    return found


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:
        return not Path("/proc/self").exists()
    return state != "Z"
