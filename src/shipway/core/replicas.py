"""One running copy of a variant's bundle, as a backend sees it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from shipway.core.backoff import CAP_S, pause_s
from shipway.core.isolation import Isolation, Sandbox
from shipway.core.secrets import Secrets
from shipway.core.versions import VersionRef

STABLE_S = 5.0
"""A replica that was ready for so long ends a row of failures."""

START_LIMIT_S = 600.0
"""A replica that is not ready so long after its process began is counted as hung."""

OVERRUN_S = 5.0
"""A model call may run so much longer than the endpoint's deadline before its replica is hung."""


SILENCE_LIMIT_S = 3.0
"""A replica that has not answered for so long is hung. It left the routes half of that earlier."""


class ReplicaState(StrEnum):
    """Where one replica stands."""

    BUILDING = "building"
    """Its environment is being built; there is no process yet."""

    STARTING = "starting"
    """Its process loads and warms the model."""

    READY = "ready"
    """It answers."""

    UNRESPONSIVE = "unresponsive"
    """Its process lives and does not answer a ping."""

    STOPPING = "stopping"
    """It was told to stop and finishes its work; its record goes when it has ended."""

    EXITED = "exited"
    """It ended without being asked to. Kept, as the evidence for backoff, until it is forgotten."""


class Batches(msgspec.Struct, frozen=True, kw_only=True):
    """How a replica's model calls went of late; all 0 before the first.

    `rows` and `call_ms`: of a model call. `saved_ms`: what a request saves that joins a call instead
    of having its own, 0 until known. `queued`: requests that wait for the model now.
    """

    rows: float = 0.0
    call_ms: float = 0.0
    saved_ms: float = 0.0
    queued: int = 0


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend knows of one replica.

    `slot` counts the replicas of a variant from 0. `generation` is the endpoint's when it was
    started. `code` and `message` say why it exited. `busy_s` is how long the present model call has
    run, 0 when idle; `silent_s` how long it has not answered. `memory_mb` is what its process held in
    memory when last measured, `peak_mb` the most it ever did, both 0 before that. `secrets` are the
    references of the variables that it was started with. `redacts`: its log quotes no values. `isolation`
    is empty until it has a process.
    """

    id: str
    endpoint: str
    version: VersionRef
    slot: int
    generation: int
    max_batch_rows: int
    max_batch_delay_ms: float = 5.0
    sandbox: Sandbox = Sandbox()
    state: ReplicaState
    started_at: datetime
    address: str = ""
    pid: int | None = None
    ready_at: datetime | None = None
    exited_at: datetime | None = None
    code: str = ""
    message: str = ""
    busy_s: float = 0.0
    silent_s: float = 0.0
    batches: Batches = Batches()
    memory_mb: float = 0.0
    peak_mb: float = 0.0
    secrets: Secrets = ()
    redacts: bool = False
    isolation: Isolation = Isolation()

    @property
    def is_running(self) -> bool:
        """Whether it is there, or on its way, and was not told to stop."""
        return self.state not in (ReplicaState.STOPPING, ReplicaState.EXITED)

    def is_hung(self, now: datetime, *, deadline_s: float) -> bool:
        """Whether it has to be killed: it does not answer, overruns, or never gets ready."""
        if self.state is ReplicaState.STARTING:
            return now - self.started_at > timedelta(seconds=START_LIMIT_S)
        if self.state is ReplicaState.UNRESPONSIVE:
            return self.silent_s >= SILENCE_LIMIT_S
        return self.state is ReplicaState.READY and self.busy_s > deadline_s + OVERRUN_S

    def was_stable(self) -> bool:
        """Whether it had been ready for long when it exited."""
        if self.ready_at is None or self.exited_at is None:
            return False
        return self.exited_at - self.ready_at >= timedelta(seconds=STABLE_S)


def restart_at(exits: Iterable[Replica]) -> datetime | None:
    """When the slot of these exited replicas may be filled again; None at once.

    The first restart after a replica that had been ready is immediate. From then on pauses double,
    until a replica has been ready for `STABLE_S`.
    """
    newest_first = sorted(exits, key=_exit_time, reverse=True)
    if not newest_first:
        return None
    failures = 0
    for replica in newest_first:
        failures += 1
        if replica.was_stable():
            break
    if newest_first[0].ready_at is not None:
        failures -= 1
    return _exit_time(newest_first[0]) + timedelta(seconds=pause_s(failures))


def is_due(at: datetime | None, now: datetime) -> bool:
    """Whether that time has come. One further away than any pause was set by another clock: now."""
    return at is None or not now < at <= now + timedelta(seconds=CAP_S)


def _exit_time(replica: Replica) -> datetime:
    return replica.exited_at or replica.started_at
