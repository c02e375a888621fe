"""How a replica's process is kept apart: what a spec asks, what a kernel can enforce, what is missing."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

ABI_SIGNALS = 6
"""From this Landlock ABI on the kernel itself keeps signals inside."""


class Strictness(StrEnum):
    """What happens where a kernel cannot enforce everything."""

    BEST_EFFORT = "best_effort"
    """Replicas start; what is missing is shown with them, and logged."""

    REQUIRED = "required"
    """No replica starts."""


class Sandbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a replica's process may do and use. The gateways' own (`inline`) models are data."""

    isolation: Strictness = Strictness.BEST_EFFORT
    """`required` refuses to run where the kernel cannot enforce all of it; else `best_effort`."""

    network: bool = False
    """Whether the model may open connections, anywhere."""

    memory_mb: Annotated[int, msgspec.Meta(ge=64)] | None = None
    """What each process of a replica may allocate; as much as the machine has when left out."""

    processes: Annotated[int, msgspec.Meta(ge=8, le=32_768)] = 512
    """Processes and threads of a replica together."""

    open_files: Annotated[int, msgspec.Meta(ge=64, le=1_048_576)] = 4096
    """Files and connections that each process may have open."""

    file_mb: Annotated[int, msgspec.Meta(ge=128)] = 4096
    """The largest file that it may write, in its own temporary directory."""


class Boundary(StrEnum):
    """One thing that a replica is kept from."""

    FILES = "files"
    """Reading and writing files that are not its own."""

    NETWORK = "network"
    """Opening connections, to other replicas' sockets too."""

    PROCESSES = "processes"
    """Reading the memory and the variables of other processes, and tracing them."""

    SIGNALS = "signals"
    """Signalling other processes."""

    SYSTEM_CALLS = "system_calls"
    """Calls of the kernel that no model needs."""

    FILE_MODES = "file_modes"
    """Changing modes and owners of files that are not its own."""

    SHARED_MEMORY = "shared_memory"
    """Reaching the shared memory of others."""

    MEMORY = "memory"
    """Holding more memory than its limit."""

    PROCESS_COUNT = "process_count"
    """Starting more processes than its limit."""

    PRIVILEGES = "privileges"
    """Having or getting any privilege, open descriptor or variable of who started it."""

    OPEN_FILES = "open_files"
    """Opening more files than its limit, and writing larger ones."""


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel of a machine offers to the user who starts replicas there.

    `mounts_refused` is why no private mounts can be made, empty where they can. `hides_processes`:
    they may have a `/proc` without the others' processes. `has_groups`: control
    groups that count processes can be made.
    """

    machine: str
    landlock_abi: int = 0
    filters_calls: bool = False
    mounts_refused: str = ""
    hides_processes: bool = False
    is_root: bool = False
    has_groups: bool = False


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A boundary that is not enforced, and why."""

    boundary: Boundary
    reason: str


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica is kept from, and what not. `network` is in neither where the spec allows it."""

    enforced: tuple[Boundary, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything is enforced that can be asked for."""
        return not self.missing


def isolation_on(kernel: Kernel, sandbox: Sandbox) -> Isolation:
    """What can be enforced there for a replica with this sandbox."""
    reasons = _reasons(kernel)
    asked = [b for b in Boundary if b is not Boundary.NETWORK or not sandbox.network]
    return Isolation(
        enforced=tuple(b for b in asked if not reasons.get(b)),
        missing=tuple(Missing(boundary=b, reason=reasons[b]) for b in asked if reasons.get(b)),
    )


def in_words(isolation: Isolation) -> str:
    """What is missing, in a line; empty when nothing is."""
    return "; ".join(f"{one.boundary.value}: {one.reason}" for one in isolation.missing)


def _reasons(kernel: Kernel) -> dict[Boundary, str]:
    """Why a boundary cannot be enforced; empty or not there where it can."""
    no_landlock = "" if kernel.landlock_abi else "the kernel has no Landlock (Linux 5.13, enabled)"
    no_filter = "" if kernel.filters_calls else f"no seccomp filter for {kernel.machine}"
    mounts = kernel.mounts_refused
    no_mounts = f"private mounts are not allowed here ({mounts})" if mounts else ""
    return {
        Boundary.FILES: no_landlock,
        Boundary.NETWORK: no_filter,
        Boundary.PROCESSES: no_landlock or no_filter,
        Boundary.SIGNALS: no_filter if kernel.landlock_abi < ABI_SIGNALS else "",
        Boundary.SYSTEM_CALLS: no_filter,
        Boundary.FILE_MODES: no_mounts,
        Boundary.SHARED_MEMORY: no_mounts and no_landlock,
        Boundary.PROCESS_COUNT: _uncounted(kernel),
    }


def _uncounted(kernel: Kernel) -> str:
    if kernel.has_groups:
        return ""
    if kernel.is_root:
        return (
            "limits on processes do not bind root; it takes a `pids` control group, or another user"
        )
    if kernel.mounts_refused:
        return "without a user namespace the kernel counts all processes of the user together"
    return ""
