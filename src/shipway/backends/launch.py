"""Starting a replica's process: detached, without our environment variables, its output in a file."""

from __future__ import annotations

import os
import site
from collections.abc import Mapping, Sequence
from pathlib import Path

from shipway.backends.port import ReplicaOrder
from shipway.confinement.order import Order

_ENTRY_POINT = Path(__file__).parents[1] / "replica" / "__main__.py"
_KEPT = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH"})
_KEPT_PREFIXES = ("LC_", "OMP_", "CUDA_", "NVIDIA_")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def command_of(order: ReplicaOrder, python: Path, address: str, confinement: Order) -> list[str]:
    """The command line of a replica, whose interpreter must not run packages before it is confined."""
    return [
        str(python),
        "-S",
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
        "--confinement",
        confinement.to_json(),
    ]


def scrubbed(environment: Mapping[str, str], scratch: str) -> dict[str, str]:
    """The variables that model code may see: no credentials, no settings of ours.

    Its home and temporary directory is `scratch`. Libraries get one thread each unless the person set a number: replicas are the parallelism.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _KEPT or name in _THREADS or name.startswith(_KEPT_PREFIXES)
    }
    own = {"HOME": scratch, "TMPDIR": scratch, "PYTHONUNBUFFERED": "1"}
    if site.ENABLE_USER_SITE:  # which would be looked for in the home
        own["PYTHONUSERBASE"] = site.getuserbase()
    return {**dict.fromkeys(_THREADS, "1"), **kept, **own}


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
