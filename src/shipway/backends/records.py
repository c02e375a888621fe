"""`run/replicas/`: one record per replica, so that they are found again by whoever comes next."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir

import msgspec

from shipway.backends.groups import ProcessGroups
from shipway.backends.identity import ProcessIdentity, with_option
from shipway.backends.logs import before
from shipway.backends.scratch import ScratchDirectory
from shipway.core.replicas import Replica

LONGEST_SOCKET_PATH = 104
"""Bytes of a Unix socket's path, below Linux's 107 and macOS's 103 with its final zero."""

KEPT_LOGS = 40
"""Logs of replicas that are gone; older ones are removed."""

_POLL_S = 0.02


class ReplicaRecord(Replica, frozen=True, kw_only=True):
    """A replica and the start time of its process, empty while it has none."""

    process_start: str = ""

    @property
    def process(self) -> ProcessIdentity | None:
        """The process to look for; None when it was never started."""
        if self.pid is None or not self.process_start:
            return None
        return ProcessIdentity(self.pid, self.process_start)


class RecordDirectory:
    """The records, sockets and logs of the replicas of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._records = state_dir / "run" / "replicas"
        self._logs = state_dir / "logs" / "replicas"
        self._sockets = _socket_directory(self._records)

    def create(self) -> None:
        """Makes the directories."""
        for directory in (self._records, self._logs, self._sockets):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def address_of(self, replica_id: str) -> str:
        """The Unix address of a replica: short enough for the kernel wherever the state is."""
        return f"unix:{self._sockets / _short(replica_id)}.sock"

    def log_of(self, replica_id: str) -> Path:
        """The file that its process writes to."""
        return self._logs / f"{replica_id}.log"

    def save(self, record: ReplicaRecord) -> None:
        """Writes a record, whole or not at all."""
        path = self._path(record.id)
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(record))
        draft.replace(path)

    def drop(self, replica_id: str) -> None:
        """Removes socket and record; the log stays. Idempotent."""
        Path(self.address_of(replica_id).removeprefix("unix:")).unlink(missing_ok=True)
        self._path(replica_id).unlink(missing_ok=True)

    def all(self) -> tuple[ReplicaRecord, ...]:
        """Every readable record."""
        return tuple(self._readable())

    def _readable(self) -> Iterator[ReplicaRecord]:
        for path in sorted(self._records.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=ReplicaRecord)
            except (OSError, msgspec.MsgspecError):
                continue

    def prune_logs(self) -> None:
        """Removes the oldest logs of replicas that have no record any more."""
        known = {record.id for record in self.all()}
        logs = [path for path in self._logs.glob("*.log") if path.stem not in known]
        logs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[KEPT_LOGS:]:
            path.unlink(missing_ok=True)
            before(path).unlink(missing_ok=True)

    def _path(self, replica_id: str) -> Path:
        return self._records / f"{replica_id}.json"


def find_process(record: ReplicaRecord) -> ProcessIdentity | None:
    """The live process of a record, also of one that was killed between start and noting the pid."""
    process = record.process or with_option("--address", record.address)
    return process if process is not None and process.is_alive() else None


def end_all(state_dir: Path, *, grace_s: float) -> int:
    """Ends every recorded replica process and drops its record; gives how many had to be ended.

    They get SIGTERM and `grace_s` to finish their work, then SIGKILL. Blocks. Idempotent.
    """
    directory = RecordDirectory(state_dir)
    records = directory.all()
    running = [process for record in records if (process := find_process(record)) is not None]
    for process in running:
        process.signal_group(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(process.is_alive() for process in running) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for process in running:
        process.signal_group(signal.SIGKILL)
    for record in records:
        directory.drop(record.id)
    ProcessGroups(state_dir).keep_only(())
    ScratchDirectory(state_dir).keep_only(())
    return len(running)


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]


def _socket_directory(records: Path) -> Path:
    longest = len(os.fsencode(records / f"{_short('')}.sock"))
    if longest <= LONGEST_SOCKET_PATH:
        return records
    return Path(gettempdir()) / f"shipway-{os.getuid()}-{_short(str(records))}"
