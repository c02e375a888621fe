"""The confinement of one replica: its sandbox, on this machine, as an order for its process."""

from __future__ import annotations

import os
from pathlib import Path

from shipway.backends.port import ReplicaOrder
from shipway.backends.reach import devices, readable
from shipway.confinement.order import Order
from shipway.core.errors import IsolationFailed
from shipway.core.isolation import Isolation, Kernel, Sandbox, Strictness, in_words, isolation_on

_MB = 1024 * 1024


def isolation_of(sandbox: Sandbox, kernel: Kernel) -> Isolation:
    """What a replica with this sandbox is kept from on this machine.

    Raises:
        IsolationFailed: the spec requires what the kernel cannot enforce.
    """
    isolation = isolation_on(kernel, sandbox)
    if sandbox.isolation is Strictness.REQUIRED and not isolation.is_complete:
        raise IsolationFailed(
            f"The spec requires isolation that cannot be enforced here: {in_words(isolation)}.",
            next_step="docs/explanation/isolation.md says what each takes; or set"
            " `sandbox.isolation` to `best_effort`.",
        )
    return isolation


def confinement_of(
    order: ReplicaOrder, *, kernel: Kernel, python: Path, scratch: Path, state_dir: Path
) -> Order:
    """What the replica's process has to confine itself to on this machine."""
    sandbox = order.sandbox
    counts_per_replica = not kernel.is_root and not kernel.mounts_refused
    return Order(
        landlock_abi=kernel.landlock_abi,
        seccomp=kernel.filters_calls,
        mounts=not kernel.mounts_refused,
        network=sandbox.network,
        read=readable(
            python,
            order.bundle_dir.absolute(),
            state_dir=state_dir,
            libraries=os.environ.get("LD_LIBRARY_PATH", ""),
            network=sandbox.network,
        ),
        use=devices(),
        scratch=str(scratch),
        memory_bytes=sandbox.memory_mb * _MB if sandbox.memory_mb else _machine_bytes(),
        processes=sandbox.processes if counts_per_replica else 0,
        open_files=sandbox.open_files,
        file_bytes=sandbox.file_mb * _MB,
    )


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
