"""How far the gateway's event loop is behind."""

from __future__ import annotations

import asyncio
from time import monotonic

BEAT_S = 0.02

BEHIND = 0.2
"""The share of its deadline that a request may have waited in the sockets."""


class Pulse:
    """Notes when the event loop last came round.

    Models that run on the loop hold up the requests behind them, which wait in the sockets' buffers,
    where nobody counts them. All that arrived meanwhile are answered in one turn of the loop; `at` is
    when the turn began, so what is answered now has waited at least since then.
    """

    __slots__ = ("_timer", "at")

    def __init__(self) -> None:
        self.at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def started(cls) -> Pulse:
        """One that beats on the running loop."""
        made = cls()
        made.start()
        return made

    def start(self) -> None:
        """Begins to beat on the running loop."""
        self._beat()

    def stop(self) -> None:
        """Beats no more; nothing counts as behind from now on."""
        if self._timer is not None:
            self._timer.cancel()
        self.at = float("inf")

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self.at = monotonic()
        self._timer = loop.call_later(BEAT_S, self._beat)
