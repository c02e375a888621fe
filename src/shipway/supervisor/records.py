"""`run/`: who serves a state directory, and the lock that lets only one do so."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shipway.backends.identity import ProcessIdentity
from shipway.core.errors import AlreadyRunning


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server that is up: `run/up.json`. `start` is its process's start time."""

    pid: int
    start: str
    control_url: str
    gateway_url: str
    state_dir: str
    grpc_address: str = ""
    tls_cert: str = ""
    """The certificate that it shows; empty when it speaks without TLS."""

    @property
    def process(self) -> ProcessIdentity:
        """The supervisor's process."""
        return ProcessIdentity(self.pid, self.start)


def running(state_dir: Path) -> Running | None:
    """The server of a state directory, once it is ready; None when none is up."""
    try:
        record = msgspec.json.decode(_path(state_dir).read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None
    return record if record.process.is_alive() else None


def write(record: Running) -> None:
    """Writes the record, whole or not at all."""
    path = _path(Path(record.state_dir))
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(record))
    draft.replace(path)


def drop(state_dir: Path) -> None:
    """Removes the record. Idempotent."""
    _path(state_dir).unlink(missing_ok=True)


@contextmanager
def exclusive(state_dir: Path, role: str) -> Iterator[None]:
    """Holds the lock of a role (`up`, `control`) on the state directory; a dead holder loses it.

    Raises:
        AlreadyRunning: another process holds it, with its pid and address when they are known.
    """
    path = state_dir / "run" / f"{role}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            stream.seek(0)
            raise _already_running(state_dir, holder=stream.read().strip()) from exc
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def is_held(state_dir: Path, role: str) -> bool:
    """Whether a process holds the lock of a role now. Makes nothing."""
    try:
        with (state_dir / "run" / f"{role}.lock").open() as stream:
            # Shared: who looks does not keep another one from looking.
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _already_running(state_dir: Path, *, holder: str) -> AlreadyRunning:
    server = running(state_dir)
    at = f" at {server.gateway_url} (control at {server.control_url})" if server else ""
    return AlreadyRunning(
        f"A server with pid {holder or 'unknown'} already serves `{state_dir}`{at}.",
        next_step="Use it, end it with `shipway down`, or name another directory with `--dir`.",
        pid=int(holder) if holder.isdigit() else None,
        control_url=server.control_url if server else None,
        gateway_url=server.gateway_url if server else None,
    )


def _path(state_dir: Path) -> Path:
    return state_dir / "run" / "up.json"
