"""Requests for a variant that has no replica now: they are held until control has started one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shipway.core.errors import NoReadyReplica
from shipway.wire.snapshot import Variant

RETRY_AFTER_S = 2
"""What a caller is told whose deadline was shorter than the start, which goes on."""


class Waking:
    """Holds the requests of one variant while it is woken.

    `on_change` is called when the first request is held: control starts replicas when it is told.
    How many may be held, and for how long, the endpoint's queue and the request's deadline bound.
    """

    def __init__(self, *, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._news = asyncio.Event()
        self._waits_for = ""
        self.may_sleep = False
        self.error = ""
        self.held = 0

    @property
    def is_wakeable(self) -> bool:
        """Whether a request would be held, and not refused."""
        return self.may_sleep and not self.error

    def follow(self, variant: Variant) -> None:
        """Takes over what the snapshot says of the variant; those that cannot be woken are told."""
        self.may_sleep = variant.may_sleep
        self.error = variant.asleep_error
        self._waits_for = variant.waits_for
        self.tell()

    def give_up(self, reason: str) -> None:
        """Fails the requests that are held, and holds no more: nobody will wake the variant."""
        self.may_sleep, self.error = False, reason
        self.tell()

    def tell(self) -> None:
        """Lets those that are held look again."""
        if self.held:
            self._news.set()
            self._news = asyncio.Event()

    async def until(self, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Returns once it is ready. Cancelling it takes the request out.

        Raises:
            NoReadyReplica: it cannot be woken, with the reason, or not in time.
        """
        self.held += 1
        try:
            if self.held == 1:
                self._on_change()
            async with asyncio.timeout(timeout_s):
                while not is_ready():
                    if not self.is_wakeable:
                        raise self.refusal()
                    await self._news.wait()
        except TimeoutError as exc:
            raise NoReadyReplica(
                self._waits_for or "The model is still starting.",
                next_step="Ask again: the start goes on. Or raise `limits.deadline_ms`.",
                retry_after_s=RETRY_AFTER_S,
            ) from exc
        finally:
            self.held -= 1

    def refusal(self) -> NoReadyReplica:
        """What a request is told that is not held."""
        return NoReadyReplica(
            self.error or "No replica is ready.", retry_after_s=RETRY_AFTER_S if self.error else 1
        )
