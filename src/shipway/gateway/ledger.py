"""What callers and endpoints have used of their limits, counted over the gateways of this machine.

`<state>/run/limits/ledger.bin` is mapped by all of them. Whoever decides about a request holds an
exclusive `flock` on the file meanwhile, some microseconds, so the counts are exact. The file outlives
the gateways, and with it a day's counts; it is synced to disk each second, so a machine that loses its
power forgets a second at most.

A gateway that is stopped (SIGSTOP) in the middle of a decision holds the lock until it goes on or ends. The
others decide without the lock meanwhile: each of them may let a request in that another lets in at the
same moment.

Where the file cannot be made (a full disk, a foreign owner), a gateway counts for itself alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import monotonic, time  # noqa: TID251 - days end by the calendar's clock
from typing import Protocol

from shipway.core.rates import (
    DAY_S,
    CallerLimits,
    Decision,
    Kind,
    Use,
    Whose,
    decide,
    larger,
    settled,
)
from shipway.engines.logs import say
from shipway.gateway.cells import Cells
from shipway.gateway.counters import ASK_AGAIN_S
from shipway.wire.uses import FLOATS, INSIDE, new_cell, put_use, use_in

SYNC_EVERY_S = 1.0


class Bound:
    """Limits and where their use is counted; resolved when a snapshot is swapped in."""

    __slots__ = ("cell", "is_concurrent", "limits", "name", "whose")

    def __init__(
        self, whose: Whose, name: str, limits: CallerLimits, cell: memoryview[float]
    ) -> None:
        self.whose = whose
        self.name = name
        self.limits = limits
        self.cell = cell
        self.is_concurrent = limits.max_concurrency is not None


Bounds = tuple[Bound, ...]
"""What a request must be let in by, all of it; empty for one that nothing bounds."""


class Visit:
    """One request and its bounds.

    `is_concurrent`: how many are under way is bounded. `is_inside`: it counts among them, until it leaves.
    `id` is its name elsewhere, empty when it is not counted there.
    """

    __slots__ = ("bounds", "cost", "id", "is_concurrent", "is_inside", "lasts_s", "size_bytes")

    def __init__(
        self, bounds: Bounds, *, cost: int = 1, lasts_s: float = 60.0, size_bytes: int = 0
    ) -> None:
        """`cost` are the units that it takes from budgets; after `lasts_s` it has ended in any case."""
        self.bounds = bounds
        self.cost = cost
        self.lasts_s = lasts_s
        self.size_bytes = size_bytes
        self.is_concurrent = any(bound.is_concurrent for bound in bounds)
        self.id = ""
        self.is_inside = False


class Ledger(Protocol):
    """Who may come in now, by what was used before."""

    @property
    def is_shared(self) -> bool:
        """Whether other machines count along now."""
        ...

    def bound(self, whose: Whose, name: str, limits: CallerLimits | None) -> Bounds:
        """The bounds for these limits, empty for none. Reads files: not for the way of a request."""
        ...

    def ask(self, visit: Visit) -> Decision | asyncio.Future[Decision]:
        """Whether a request is let in, which is charged then; a future where others must be asked.

        Never raises, and the future neither. Each visit is asked for once.
        """
        ...

    def leave(self, visit: Visit) -> None:
        """Counts a request out, whatever the decision was; idempotent."""
        ...

    async def keep(self) -> None:
        """What is done again and again while the gateway lives, until cancelled."""
        ...

    async def close(self) -> None:
        """Ends this gateway's part; the counts stay; idempotent."""
        ...


class MachineLedger:
    """See Ledger. Without a directory, this gateway counts for itself alone."""

    is_shared = False

    def __init__(self, directory: Path | None = None, *, wall: Callable[[], float] = time) -> None:
        """`wall` gives the seconds since 1970, by which days begin and end."""
        self._wall = wall
        self._cells = _opened(directory, since_day=int(wall() // DAY_S) - 1)
        self._own: dict[tuple[Whose, str], memoryview[float]] = {}
        self._slot = INSIDE + (self._cells.slot if self._cells else 0)
        self._is_changed = False
        self._is_closed = False
        self._looked_at = 0.0

    def bound(self, whose: Whose, name: str, limits: CallerLimits | None) -> Bounds:
        """See Ledger."""
        if limits is None or not limits.bounds_anything:
            return ()
        cell = self._own.get((whose, name))
        if cell is None:
            cell = self._own[whose, name] = self._shared_cell(whose, name) or new_cell()
        return (Bound(whose, name, limits, cell),)

    def _shared_cell(self, whose: Whose, name: str) -> memoryview[float] | None:
        if self._cells is None:
            return None
        with self._held():
            return self._cells.cell(whose, name)

    def ask(self, visit: Visit) -> Decision:
        """See Ledger."""
        with self._held():
            decision = self._decided(visit)
            if _is_busy(decision) and self._forget_ended(visit):
                decision = self._decided(visit)
            if decision.refusal is None:
                for bound, use in zip(visit.bounds, decision.uses, strict=True):
                    put_use(bound.cell, use)
                self.enter(visit)
                self._is_changed = True
        return decision

    def _decided(self, visit: Visit) -> Decision:
        asked = [(bound.limits, _use_of(bound)) for bound in visit.bounds]
        return decide(asked, cost=visit.cost, now=monotonic(), wall_s=self._wall())

    def enter(self, visit: Visit) -> None:
        """Counts a request in that was let in."""
        for bound in visit.bounds:
            if bound.is_concurrent:
                bound.cell[self._slot] += 1.0
                visit.is_inside = True

    def leave(self, visit: Visit) -> None:
        """See Ledger."""
        # Nobody else writes into this gateway's slot while it lives, so there is nothing to lock.
        if visit.is_inside and not self._is_closed:
            visit.is_inside = False
            for bound in visit.bounds:
                if bound.is_concurrent:
                    bound.cell[self._slot] -= 1.0

    def _forget_ended(self, visit: Visit) -> bool:
        """Whether something was under way in gateways that have ended; it is counted out."""
        now = monotonic()
        if self._cells is None or now - self._looked_at < ASK_AGAIN_S:
            return False
        self._looked_at = now
        cells = [bound.cell for bound in visit.bounds if bound.is_concurrent]
        used = {place for cell in cells for place in range(INSIDE, FLOATS) if cell[place]}
        ended = [place for place in used if not self._cells.is_alive(place - INSIDE)]
        for cell in cells:
            for place in ended:
                cell[place] = 0.0
        return bool(ended)

    def uses(self, bounds: Sequence[Bound]) -> list[Use]:
        """What was used of each, as of its last request."""
        with self._held():
            return [use_in(bound.cell) for bound in bounds]

    def note(self, bounds: Sequence[Bound], uses: Sequence[Use]) -> None:
        """Takes over what was found out elsewhere by another clock. Nothing is counted down by it."""
        now, wall_s = monotonic(), self._wall()
        with self._held():
            for bound, use in zip(bounds, uses, strict=True):
                known = settled(bound.limits, use_in(bound.cell), now=now, wall_s=wall_s)
                put_use(bound.cell, larger(known, use))
        self._is_changed = True

    async def keep(self) -> None:
        """Syncs the counts to disk each second that changed any, until cancelled. See Ledger."""
        while self._cells is not None:
            await asyncio.sleep(SYNC_EVERY_S)
            if self._is_changed:
                self._is_changed = False
                await asyncio.to_thread(self._cells.sync)

    async def close(self) -> None:
        """See Ledger. Nothing counts as under way here any more."""
        self._is_closed = True
        if self._cells is not None:
            self._cells.close()

    def _held(self) -> AbstractContextManager[object]:
        if self._cells is None or self._is_closed:
            return nullcontext()
        return self._cells.lock


def _opened(directory: Path | None, *, since_day: int) -> Cells | None:
    if directory is None:
        return None
    try:
        return Cells(directory, since_day=since_day)
    except OSError as exc:
        say(f"The limits of callers are this gateway's alone: {exc}.")
        return None


def _use_of(bound: Bound) -> Use:
    cell = bound.cell
    if not bound.is_concurrent:
        return use_in(cell)
    inside = int(sum(cell[INSIDE:FLOATS]))
    return Use(cell[0], cell[1], int(cell[2]), int(cell[3]), int(cell[4]), inside)


def _is_busy(decision: Decision) -> bool:
    return decision.refusal is not None and decision.refusal.kind is Kind.CONCURRENCY
