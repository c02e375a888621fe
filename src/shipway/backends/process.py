"""Replicas as local processes, each in its model's own environment.

Each replica has one task that brings it up, watches it, and writes down how it ended. Processes are
detached: they outlive this one, and the next one finds them by their records.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from shipway.backends.confinement import Confinements
from shipway.backends.environments import interpreter_for
from shipway.backends.identity import ProcessIdentity
from shipway.backends.kernel import kernel_here
from shipway.backends.launch import command_of, scrubbed, spawn
from shipway.backends.logs import end_of
from shipway.backends.memory import memory_of
from shipway.backends.port import ReplicaOrder
from shipway.backends.records import RecordDirectory, ReplicaRecord, find_process
from shipway.backends.secrets import SecretSource
from shipway.backends.waiting import end_when, ended, in_daemon_thread, reaped
from shipway.core.bundles import EnvironmentLock
from shipway.core.errors import DependencyError, ShipwayError
from shipway.core.failures import LastWord, last_line, last_word
from shipway.core.isolation import Isolation, Kernel, in_words
from shipway.core.replicas import Batches, Replica, ReplicaState
from shipway.core.secrets import NONE_ALLOWED
from shipway.engines.incidents import REDACTS
from shipway.engines.logs import LOG_FORMAT
from shipway.wire.frames import Pong
from shipway.wire.link import ping

PING_EVERY_S = 0.25
LOOK_MIN_S = 0.01
LOOK_SHARE = 0.05
"""A starting replica is asked again after this share of the time that it has taken so far: callers
may wait for it, and one that takes a minute is not asked a hundred times a second."""

MEASURE_EVERY_S = 5.0
"""How often a replica's memory is measured."""

PING_TIMEOUT_S = 1.25
"""With the pause between pings, silence is noticed 1.5 s after the last answer."""

GRACE_S = 35.0
"""A stopping replica may take so long for what it has begun; then it is killed."""

_LOG_TAIL_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


class Interpreter(Protocol):
    """What finds or builds the Python of a lock; see `environments.interpreter_for`."""

    def __call__(
        self, lock: EnvironmentLock, envs_dir: Path, *, on_progress: Callable[[str], None]
    ) -> Path:
        """The interpreter's path. May block for minutes; raises EnvironmentFailed."""
        ...


class ProcessBackend:
    """The backend `process`. Used from one event loop; `on_change` is called after every change.

    `log_format` is how replicas write their own lines: `text` or `json`.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Callable[[], datetime],
        interpreter: Interpreter = interpreter_for,
        secrets: SecretSource | None = None,
        kernel: Callable[[], Kernel] = kernel_here,
    ) -> None:
        """`secrets` reads what orders refer to; without it no reference may be used."""
        self._envs_dir = state_dir / "envs"
        self._records = RecordDirectory(state_dir)
        self._confinements = Confinements(state_dir, kernel=kernel)
        self._clock = clock
        self.on_change: Callable[[], None] = lambda: None
        self.log_format = "text"
        self._interpreter = interpreter
        self._secrets = secrets or SecretSource(NONE_ALLOWED)
        self._replicas: dict[str, ReplicaRecord] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stop_requests: dict[str, asyncio.Event] = {}

    async def open(self) -> None:
        """Finds the replicas that run already, and notes which ended meanwhile."""
        self._records.create()
        for record in self._records.all():
            self._adopt(record)
        await asyncio.to_thread(self._confinements.open, alive=set(self._tasks))

    async def close(self) -> None:
        """Stops watching; replicas run on. Idempotent."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def observe(self) -> tuple[Replica, ...]:
        """All replicas as they are known now."""
        return tuple(self._replicas.values())

    def start(self, order: ReplicaOrder) -> None:
        """Begins to build the environment and then the process."""
        if order.id in self._replicas:
            return
        names = (name for name in Replica.__struct_fields__ if hasattr(order, name))
        record = ReplicaRecord(
            **{name: getattr(order, name) for name in names},
            state=ReplicaState.BUILDING,
            started_at=self._clock(),
            address=self._records.address_of(order.id),
        )
        self._put(record)
        self._own(order.id, self._bring_up(order))

    def stop(self, replica_id: str) -> None:
        """Asks the process to finish, with `GRACE_S` before it is killed."""
        record = self._replicas.get(replica_id)
        if record is None or record.state is ReplicaState.STOPPING:
            return
        if record.state is ReplicaState.EXITED:
            self._drop(replica_id)
        elif record.process is None:
            self._tasks[replica_id].cancel()
            self._drop(replica_id)
        else:
            self._update(replica_id, state=ReplicaState.STOPPING)
            self._stop_requests[replica_id].set()

    def kill(self, replica_id: str, reason: str) -> None:
        """Kills the process group; the reason is what its record will say."""
        record = self._replicas.get(replica_id)
        if record is None or record.process is None:
            return
        self._update(replica_id, code="unresponsive", message=reason)
        record.process.signal_group(signal.SIGKILL)

    def read_log(self, replica_id: str, tail: int) -> list[str]:
        """The last lines of the replica's log file."""
        return self._log_text(replica_id).splitlines()[-tail:]

    def _adopt(self, record: ReplicaRecord) -> None:
        process = find_process(record)
        self._replicas[record.id] = record
        if record.state is ReplicaState.EXITED:
            return
        if process is not None and record.process == process:
            self._own(record.id, self._watch(record.id, process))
        elif process is not None:
            # Control died between starting it and noting its pid: nobody has used it yet.
            process.signal_group(signal.SIGKILL)
            self._drop(record.id)
        elif record.process is None or record.state is ReplicaState.STOPPING:
            self._drop(record.id)
        else:
            self._note_exit(record.id, "It ended while control was away.")

    async def _bring_up(self, order: ReplicaOrder) -> None:
        try:
            isolation = self._confinements.isolation_of(order.sandbox)
            python = await self._python_for(order)
            secrets = await self._variables_for(order)
            self._note_isolation(order.id, isolation)
            process = self._spawn(order, python, secrets)
        except ShipwayError as exc:
            self._fail(order.id, LastWord.of(exc))
        except OSError as exc:
            self._fail(order.id, LastWord(error="bug", message=f"It cannot be started: {exc}."))
            self._confinements.drop(order.id)
        else:
            await self._watch(order.id, process)

    async def _python_for(self, order: ReplicaOrder) -> Path:
        loop = asyncio.get_running_loop()

        def note(line: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody reads it
                loop.call_soon_threadsafe(self._note_progress, order.id, line)

        return await in_daemon_thread(
            lambda: self._interpreter(order.environment, self._envs_dir, on_progress=note)
        )

    async def _variables_for(self, order: ReplicaOrder) -> dict[str, str]:
        """What this order adds to the environment of every replica."""
        own = {REDACTS: "1"} if order.redacts else {}
        if self.log_format != "text":
            own[LOG_FORMAT] = self.log_format
        if not order.secrets:
            return own
        return own | await in_daemon_thread(lambda: self._secrets.variables(order.secrets))

    def _spawn(
        self, order: ReplicaOrder, python: Path, secrets: Mapping[str, str]
    ) -> ProcessIdentity:
        self._records.prune_logs()
        address = self._records.address_of(order.id)
        confinement = self._confinements.made_for(order, python)
        # Written before there is a pid, so that a process without one in its record can be found.
        self._update(order.id, state=ReplicaState.STARTING, started_at=self._clock(), message="")
        pid = spawn(
            command_of(order, python, address, confinement),
            self._records.log_of(order.id),
            {**secrets, **scrubbed(os.environ, confinement.scratch)},
        )
        process = ProcessIdentity.of(pid) or ProcessIdentity(pid, "ended")
        self._update(order.id, pid=pid, process_start=process.start)
        return process

    async def _watch(self, replica_id: str, process: ProcessIdentity) -> None:
        stop = self._stop_requests.setdefault(replica_id, asyncio.Event())
        if self._replicas[replica_id].state is ReplicaState.STOPPING:
            stop.set()
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._ping_for_ever(replica_id)),
                group.create_task(self._measure_for_ever(replica_id, process.pid)),
                group.create_task(end_when(stop, process, grace_s=GRACE_S)),
            ]
            await ended(process.pid)
            for helper in helpers:
                helper.cancel()
        self._note_end(replica_id, process)
        await asyncio.to_thread(self._confinements.drop, replica_id)

    def _note_end(self, replica_id: str, process: ProcessIdentity) -> None:
        cause = reaped(process.pid)
        if self._replicas[replica_id].state is ReplicaState.STOPPING:
            self._drop(replica_id)
        else:
            self._note_exit(replica_id, cause)

    async def _ping_for_ever(self, replica_id: str) -> None:
        loop = asyncio.get_running_loop()
        started_at = answered_at = loop.time()
        address = self._replicas[replica_id].address
        while True:
            try:
                pong = await ping(address, PING_TIMEOUT_S)
            except DependencyError:
                self._note_silence(replica_id, loop.time() - answered_at)
            else:
                answered_at = loop.time()
                self._note_answer(replica_id, pong)
            pause_s = PING_EVERY_S
            if self._replicas[replica_id].state is ReplicaState.STARTING:
                pause_s = min(pause_s, max(LOOK_MIN_S, LOOK_SHARE * (loop.time() - started_at)))
            await asyncio.sleep(pause_s)

    async def _measure_for_ever(self, replica_id: str, pid: int) -> None:
        while True:
            # In a thread: the kernel walks all pages of the process meanwhile.
            found = await asyncio.to_thread(memory_of, pid)
            is_starting = self._replicas[replica_id].state is ReplicaState.STARTING
            if found is not None and not is_starting:
                self._update(replica_id, memory_mb=found.now_mb, peak_mb=found.peak_mb)
            await asyncio.sleep(PING_EVERY_S if is_starting else MEASURE_EVERY_S)

    def _note_answer(self, replica_id: str, pong: Pong) -> None:
        record = self._replicas[replica_id]
        changes: dict[str, Any] = {
            "busy_s": pong.busy_s, "silent_s": 0.0, "batches": _batches_of(pong)
        }  # fmt: skip
        if pong.ready and record.state in (ReplicaState.STARTING, ReplicaState.UNRESPONSIVE):
            changes |= {
                "state": ReplicaState.READY,
                "ready_at": record.ready_at or self._clock(),
            }
        self._update(replica_id, **changes)

    def _note_silence(self, replica_id: str, silent_s: float) -> None:
        record = self._replicas[replica_id]
        if record.state in (ReplicaState.READY, ReplicaState.UNRESPONSIVE):
            # A refused connection comes back at once: only lasting silence counts.
            is_silent = silent_s >= PING_TIMEOUT_S
            state = ReplicaState.UNRESPONSIVE if is_silent else record.state
            self._update(replica_id, state=state, silent_s=silent_s)

    def _note_isolation(self, replica_id: str, isolation: Isolation) -> None:
        if not isolation.is_complete:
            _log.warning("Replica %s is isolated in part: %s", replica_id, in_words(isolation))
        self._update(replica_id, isolation=isolation)

    def _note_progress(self, replica_id: str, line: str) -> None:
        record = self._replicas.get(replica_id)
        if record is not None and record.state is ReplicaState.BUILDING:
            self._update(replica_id, message=line)

    def _note_exit(self, replica_id: str, cause: str) -> None:
        record = self._replicas[replica_id]
        text = self._log_text(replica_id)
        said = last_word(text)
        if record.code:
            self._fail(replica_id, LastWord(error=record.code, message=record.message))
        elif said is not None:
            self._fail(replica_id, said)
        else:
            line = last_line(text)
            detail = f" Its last line: {line}" if line else ""
            self._fail(replica_id, LastWord(error="replica_lost", message=cause + detail))

    def _fail(self, replica_id: str, word: LastWord) -> None:
        _log.warning("Replica %s exited: %s", replica_id, word.message)
        self._update(
            replica_id,
            state=ReplicaState.EXITED,
            exited_at=self._clock(),
            code=word.error,
            message=word.message,
        )

    def _log_text(self, replica_id: str) -> str:
        return end_of(self._records.log_of(replica_id), _LOG_TAIL_BYTES)

    def _own(self, replica_id: str, work: Coroutine[Any, Any, None]) -> None:
        self._stop_requests[replica_id] = asyncio.Event()
        self._tasks[replica_id] = asyncio.create_task(work, name=f"replica {replica_id}")

    def _update(self, replica_id: str, **changes: Any) -> None:
        record = self._replicas.get(replica_id)
        if record is not None:
            self._put(msgspec.structs.replace(record, **changes))

    def _put(self, record: ReplicaRecord) -> None:
        before = self._replicas.get(record.id)
        self._replicas[record.id] = record
        if before is None or _noteworthy(before) != _noteworthy(record):
            self._save(record)
            self.on_change()

    def _save(self, record: ReplicaRecord) -> None:
        try:
            self._records.save(record)
        except OSError as exc:
            # A full disk must not end the watch over a replica that serves.
            _log.warning("The record of replica %s cannot be written: %s", record.id, exc)

    def _drop(self, replica_id: str) -> None:
        self._replicas.pop(replica_id, None)
        self._tasks.pop(replica_id, None)
        self._stop_requests.pop(replica_id, None)
        self._records.drop(replica_id)
        self.on_change()


def _batches_of(pong: Pong) -> Batches:
    return Batches(
        rows=round(pong.call_rows, 2),
        call_ms=round(pong.call_s * 1000, 3),
        saved_ms=round(pong.saved_s * 1000, 3),
        queued=pong.queued,
    )


def _noteworthy(record: ReplicaRecord) -> ReplicaRecord:
    """The record without what every ping changes; only changes of the rest are written down."""
    return msgspec.structs.replace(
        record, busy_s=0.0, silent_s=0.0, batches=Batches(), memory_mb=0.0, peak_mb=0.0
    )
