"""Turns at what takes much memory: few at once, and few that wait for theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from shipway.core.errors import QueueFull

MOST_WAITING = 8
"""Each holds one of the threads that answer all of control's routes, of which there are 40."""

RETRY_AFTER_S = 10


class Turns:
    """So many turns at once, for whoever waits no longer than `wait_s`. Thread-safe; blocks.

    `what` names the work, in the plural, for those who are sent away.
    """

    def __init__(self, what: str, *, at_once: int, wait_s: float) -> None:
        self._what = what
        self._wait_s = wait_s
        self._places = BoundedSemaphore(at_once + MOST_WAITING)
        self._turns = BoundedSemaphore(at_once)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Holds a turn for as long as the block lasts.

        Raises:
            QueueFull: as many as may are waiting, which it says at once; or none came free in time.
        """
        if not self._places.acquire(blocking=False):
            raise self._refusal()
        try:
            if not self._turns.acquire(timeout=self._wait_s):
                raise self._refusal()
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._places.release()

    def _refusal(self) -> QueueFull:
        return QueueFull(
            f"Too many {self._what} are under way.",
            next_step=f"Try again in {RETRY_AFTER_S} s. A shorter time or one version takes less.",
            retry_after_s=RETRY_AFTER_S,
        )
