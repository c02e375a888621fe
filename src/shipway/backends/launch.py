"""Starting a replica's process: detached, without our environment variables, its output in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from shipway.backends.port import ReplicaOrder

_ENTRY_POINT = Path(__file__).parents[1] / "replica" / "__main__.py"
_KEPT = frozenset({"PATH", "HOME", "LANG", "TMPDIR"})
_KEPT_PREFIXES = ("LC_", "OMP_")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def command_of(order: ReplicaOrder, python: Path, address: str) -> list[str]:
    """The command line of a replica."""
    return [
        str(python),
        str(_ENTRY_POINT),
        "--bundle",
        str(order.bundle_dir),
        "--digest",
        order.digest,
        "--address",
        address,
        "--id",
        order.id,
        "--max-batch-rows",
        str(order.max_batch_rows),
        "--max-batch-delay-ms",
        str(order.max_batch_delay_ms),
    ]


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that model code may see: no credentials, no settings of ours.

    Libraries get one thread each unless the person set a number: replicas are the parallelism.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _KEPT or name in _THREADS or name.startswith(_KEPT_PREFIXES)
    }
    return {**dict.fromkeys(_THREADS, "1"), "PYTHONUNBUFFERED": "1", **kept}


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    """Starts the command in a session of its own and gives its pid; it survives its parent.

    Raises:
        OSError: the program cannot be started, or the log not be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        list(command),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
