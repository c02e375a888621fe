"""Giving up what a process could use against others: capabilities, descriptors, resources."""

from __future__ import annotations

import os
import resource
import struct
from contextlib import suppress

from shipway.confinement.calls import capset, prctl

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_CAPABILITIES_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64
_OUT_OF_MEMORY_SCORE = 500
"""When the machine's memory is gone, the kernel ends a replica before control or a gateway."""


def close_inherited(*, keep: frozenset[int]) -> None:
    """Closes every descriptor but the first three and those."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):  # the listing's own is closed already
                os.close(int(name))


def limit(kind: int, most: int) -> None:
    """Sets a resource limit for good; a lower one that is there stays."""
    _, hard = resource.getrlimit(kind)
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (bound, bound))


def yield_memory() -> None:
    """Lets the kernel choose this process first when the machine's memory is gone."""
    with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as stream:
        # A machine may have set more already, and less needs a privilege.
        if int(stream.read()) < _OUT_OF_MEMORY_SCORE:
            stream.write(str(_OUT_OF_MEMORY_SCORE))


def drop() -> None:
    """Gives up every capability, for good and for every program that is executed.

    Raises:
        OSError: the kernel refuses.
    """
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    for capability in range(_MOST_CAPABILITIES):
        with suppress(OSError):  # beyond the last one, or never had
            prctl(_PR_CAPBSET_DROP, capability)
    capset(struct.pack("=Ii", _CAPABILITIES_VERSION_3, 0), bytes(24))
