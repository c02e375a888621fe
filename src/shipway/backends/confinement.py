"""What replicas are confined to on this machine, and what each is given for itself alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from pathlib import Path

import msgspec

from shipway.backends.groups import ProcessGroups
from shipway.backends.kernel import kernel_here
from shipway.backends.port import ReplicaOrder
from shipway.backends.reach import devices, readable
from shipway.backends.scratch import ScratchDirectory
from shipway.confinement.order import Order
from shipway.core.errors import IsolationFailed
from shipway.core.isolation import Isolation, Kernel, Sandbox, Strictness, in_words, isolation_on

_MB = 1024 * 1024


class Confinements:
    """The confinements of the replicas of one state directory. `open` it first."""

    def __init__(self, state_dir: Path, *, kernel: Callable[[], Kernel] = kernel_here) -> None:
        self._state_dir = state_dir
        self._scratch = ScratchDirectory(state_dir)
        self._groups = ProcessGroups(state_dir)
        self._kernel_here = kernel
        self._kernel = Kernel(machine="")

    def open(self, *, alive: Container[str]) -> None:
        """Asks the kernel, and removes what was given to replicas that are gone. May block."""
        has_groups = self._groups.is_available
        self._kernel = msgspec.structs.replace(self._kernel_here(), has_groups=has_groups)
        self._scratch.keep_only(alive)
        self._groups.keep_only(alive)

    def isolation_of(self, sandbox: Sandbox) -> Isolation:
        """What a replica with this sandbox is kept from.

        Raises:
            IsolationFailed: the spec requires what cannot be enforced here.
        """
        isolation = isolation_on(self._kernel, sandbox)
        if sandbox.isolation is Strictness.REQUIRED and not isolation.is_complete:
            raise IsolationFailed(
                f"The spec requires isolation that cannot be enforced here: {in_words(isolation)}.",
                next_step="docs/explanation/isolation.md says what each takes; or set"
                " `sandbox.isolation` to `best_effort`.",
            )
        return isolation

    def made_for(self, order: ReplicaOrder, python: Path) -> Order:
        """What the replica's process must confine itself to; its directory and group are made.

        Raises:
            OSError: they cannot be made.
        """
        kernel, sandbox = self._kernel, order.sandbox
        group = self._groups.make(order.id, sandbox.processes) if kernel.has_groups else ""
        counts_own = not kernel.is_root and not kernel.mounts_refused
        return Order(
            landlock_abi=kernel.landlock_abi,
            seccomp=kernel.filters_calls,
            mounts=not kernel.mounts_refused,
            hides_processes=kernel.hides_processes,
            network=sandbox.network,
            read=readable(
                python,
                order.bundle_dir.absolute(),
                state_dir=self._state_dir,
                libraries=os.environ.get("LD_LIBRARY_PATH", ""),
                network=sandbox.network,
                all_of_proc=kernel.hides_processes,
            ),
            use=devices(),
            scratch=str(self._scratch.make(order.id)),
            memory_bytes=sandbox.memory_mb * _MB if sandbox.memory_mb else _machine_bytes(),
            processes=sandbox.processes if counts_own else 0,
            open_files=sandbox.open_files,
            file_bytes=sandbox.file_mb * _MB,
            group=str(group),
        )

    def drop(self, replica_id: str) -> None:
        """Removes what was given to the replica, and ends what it has left. Idempotent; may block."""
        self._groups.drop(replica_id)
        self._scratch.drop(replica_id)


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
