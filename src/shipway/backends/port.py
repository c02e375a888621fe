"""The port behind which replicas are started and stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from shipway.core.bundles import EnvironmentLock
from shipway.core.isolation import Sandbox
from shipway.core.replicas import Replica
from shipway.core.secrets import Secrets
from shipway.core.versions import VersionRef


class ReplicaOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a backend needs to start one replica. `id` is unique for ever.

    `secrets` are references; the backend resolves them where and when the process starts. With
    `redacts`, the log has no messages of exceptions of the model's code.
    """

    id: str
    endpoint: str
    version: VersionRef
    slot: int
    generation: int
    max_batch_rows: int
    max_batch_delay_ms: float
    digest: str
    bundle_dir: Path
    environment: EnvironmentLock
    secrets: Secrets = ()
    redacts: bool = False
    sandbox: Sandbox = Sandbox()


class Backend(Protocol):
    """Where replicas run. They outlive the control process that started them."""

    async def open(self) -> None:
        """Finds the replicas that run already. Called once, first. May block for a second."""
        ...

    async def close(self) -> None:
        """Stops watching; replicas run on. Idempotent."""
        ...

    def observe(self) -> tuple[Replica, ...]:
        """All replicas as they are known now, exited ones included. No I/O."""
        ...

    def start(self, order: ReplicaOrder) -> None:
        """Begins to start a replica; it is observed from now on. Idempotent by id, does not block.

        A failure is no error here: the replica is then observed as exited, with the reason.
        """
        ...

    def stop(self, replica_id: str) -> None:
        """Lets a replica finish its work and end, then drops it; an exited one is dropped at once.

        Idempotent, does not block; an unknown id is ignored.
        """
        ...

    def kill(self, replica_id: str, reason: str) -> None:
        """Ends a replica at once; it is then observed as exited for that reason.

        Idempotent, does not block; an unknown id is ignored.
        """
        ...

    def read_log(self, replica_id: str, tail: int) -> list[str]:
        """The last lines that a replica wrote, at most `tail`. Reads a file; empty when unknown."""
        ...
