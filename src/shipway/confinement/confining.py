"""Applies an order to this process, in the sequence that works: a later step takes rights away.

To be called while the process has one thread, before any code of others runs.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from functools import partial

from shipway.confinement import filtering, landlock, mounting, privileges
from shipway.confinement.order import Order


class NotConfined(Exception):
    """A step failed; the process must end."""


def confine(order: Order, *, keep: frozenset[int] = frozenset()) -> None:
    """Confines this process and all that it will start; `keep` are descriptors that stay open.

    Raises:
        NotConfined: a step failed, which is named. The process is then confined in part.
    """
    for name, step in _steps(order, keep):
        try:
            step()
        except OSError as exc:
            raise NotConfined(f"{name}: {exc.strerror or exc}") from exc


def _steps(order: Order, keep: frozenset[int]) -> list[tuple[str, Callable[[], None]]]:
    steps: list[tuple[str, Callable[[], None]]] = [
        ("closing descriptors", partial(privileges.close_inherited, keep=keep)),
        ("joining its control group", partial(_join, order.group)),
        ("yielding memory", privileges.yield_memory),
    ]
    if order.mounts:
        steps.append(("private mounts", partial(_mount, order)))
    steps += [
        # In its own user namespace, so that only its own processes are counted.
        ("limits", partial(_limit, order)),
        ("its directory", partial(os.chdir, order.scratch)),
        ("capabilities", privileges.drop),
    ]
    if order.landlock_abi:
        steps.append(("Landlock", partial(_restrict_files, order)))
    if order.seccomp:
        steps.append(("seccomp", partial(_filter, order)))
    return steps


def _join(group: str) -> None:
    if group:
        with open(f"{group}/cgroup.procs", "w", encoding="ascii") as stream:
            stream.write("0")  # the one who writes it


def _mount(order: Order) -> None:
    mounting.make_private(
        order.scratch,
        shared_memory_bytes=order.memory_bytes,
        hides_processes=order.hides_processes,
    )


def _limit(order: Order) -> None:
    os.umask(0o077)
    privileges.limit(resource.RLIMIT_CORE, 0)
    for kind, most in (
        (resource.RLIMIT_DATA, order.memory_bytes),
        (resource.RLIMIT_NPROC, order.processes),
        (resource.RLIMIT_NOFILE, order.open_files),
        (resource.RLIMIT_FSIZE, order.file_bytes),
    ):
        if most:
            privileges.limit(kind, most)


def _restrict_files(order: Order) -> None:
    own = [order.scratch, *([mounting.SHARED_MEMORY] if order.mounts else [])]
    landlock.restrict(
        order.landlock_abi, read=order.read, use=order.use, own=own, network=order.network
    )


def _filter(order: Order) -> None:
    is_seen_to = order.landlock_abi >= landlock.ABI_SIGNALS
    own = None if is_seen_to else os.getpid()
    rules = filtering.rules_of(network=order.network, own_signals=own)
    filtering.install(rules, os.uname().machine)
