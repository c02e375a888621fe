"""The connections of one door, bounded together: how many there are, and what they hold unfinished.

A bound on each connection alone is none on thousands of them.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from heapq import nsmallest
from typing import Generic, Protocol, TypeVar

from shipway.core.arrival import Patience
from shipway.core.errors import QueueFull

UNFINISHED_LIMIT_BYTES = 1024**3
"""Bodies that are still arriving hold no more than this, over all connections of a door."""

_RESERVED_FILES = 256
"""Descriptors that callers cannot take: replicas, files, control."""

_LEAST_CONNECTIONS = 64


class Member(Protocol):
    """One connection."""

    @property
    def last_heard(self) -> float:
        """When anything came, by a clock that all connections of the door share."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        ...

    def drop(self) -> None:
        """Closes now."""
        ...


M = TypeVar("M", bound=Member)


class Crowd(Generic[M]):
    """The connections of one door. `most` of them may be open at once."""

    def __init__(
        self,
        patience: Patience | None = None,
        *,
        most: int | None = None,
        unfinished_limit_bytes: int = UNFINISHED_LIMIT_BYTES,
    ) -> None:
        self.patience = patience or Patience()
        self.unfinished_bytes = 0
        self._most = most_connections() if most is None else most
        self._limit_bytes = unfinished_limit_bytes
        self._members: set[M] = set()

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._members)

    def __iter__(self) -> Iterator[M]:
        """The connections that were open when it was asked."""
        return iter(tuple(self._members))

    def enter(self, member: M) -> None:
        """Takes a connection in. When there are too many, the longest silent ones go, or else itself."""
        if len(self._members) >= self._most:
            self._make_room()
        self._members.add(member)
        if len(self._members) > self._most:
            member.drop()

    def leave(self, member: M) -> None:
        """A connection has ended."""
        self._members.discard(member)

    def hold(self, size_bytes: int, own_bytes: int) -> None:
        """So many bytes more of an unfinished body have arrived, of which `own_bytes` were there before.

        Raises:
            QueueFull: all the unfinished bodies together are too large. One alone is not refused.
        """
        self.unfinished_bytes += size_bytes
        if self._limit_bytes < self.unfinished_bytes > size_bytes + own_bytes:
            raise QueueFull(
                "The gateway holds too many unfinished requests.",
                next_step="Send it again in a moment.",
                retry_after_s=1.0,
            )

    def release(self, size_bytes: int) -> None:
        """So many bytes are no part of an unfinished body any more."""
        self.unfinished_bytes -= size_bytes

    def _make_room(self) -> None:
        """Ends the longest silent connections, several at once: finding them costs a look at all."""
        quiet = (member for member in self._members if not member.is_busy)
        for member in nsmallest(max(1, self._most // 64), quiet, key=lambda one: one.last_heard):
            member.drop()
            self._members.discard(member)


def most_connections() -> int:
    """How many connections a door may have, by the open files that this process is allowed; two doors share."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_LEAST_CONNECTIONS, (min(files, 2**16) - _RESERVED_FILES) // 2)
