"""How many requests are inside an endpoint, over all gateways of a machine."""

from __future__ import annotations

from collections.abc import Callable

from shipway.core.telemetry import Column, Slots
from shipway.gateway.counters import Row

IN_FLIGHT = int(Column.IN_FLIGHT)


class Gate:
    """Counts the requests inside one endpoint; outlives snapshots, as requests do.

    `row` shows the count to the machine's other gateways, and `others` are theirs; `alive` gives those
    of them that have not just ended. A request that is answered before the event loop goes on is not
    shown: there is one of them at a time.
    """

    __slots__ = ("_alive", "in_flight", "others", "row")

    def __init__(self, row: Row, alive: Callable[[], tuple[Slots, ...]]) -> None:
        self.in_flight = 0
        self.row = row
        self._alive = alive
        self.others: tuple[Slots, ...] = ()

    def inside(self) -> int:
        """How many requests are inside, over all gateways of the machine."""
        return self.in_flight + int(sum(row[IN_FLIGHT] for row in self.others))

    def forget_ended(self) -> None:
        """Leaves out what was inside gateways that have just ended."""
        if self.others:
            self.others = self._alive()

    def show(self) -> None:
        """Shows the others how many requests are inside this gateway."""
        self.row.values[IN_FLIGHT] = float(self.in_flight)
