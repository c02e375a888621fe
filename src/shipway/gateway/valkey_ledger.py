"""What callers and endpoints have used, counted in Valkey (or Redis) over the gateways of many machines.

Each decision is one step inside Valkey, so what is let in is exact, whoever asks. A gateway asks about all
requests that came meanwhile in one call, so that a call is shared by more the more there are; only requests
with limits wait for it at all.

A Valkey that does not answer fails no request: the machine's own ledger decides then, which has taken over
every count that it was told. So each machine lets in what all of them may together until Valkey is back; a
day's counts go on from the largest that any gateway knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shipway.core.rates import CallerLimits, Decision, Whose, judged
from shipway.engines.incidents import log_unexpected
from shipway.gateway.ledger import Bounds, MachineLedger, Visit
from shipway.gateway.ledger_script import SCRIPT, Departure, decoded, encoded, visits_of
from shipway.gateway.valkey_link import CONNECT_TIMEOUT_S, Purpose, ValkeyLink

if TYPE_CHECKING:
    from valkey.asyncio import Valkey

TIMEOUT_S = 1.0
"""A limit is worth waiting for longer than a kept answer: a reply may be late that was given in time, where
the gateway waits for a processor."""

MOST_AT_ONCE = 128
"""Visits of one call: Valkey does nothing else meanwhile."""

GRACE_S = 5.0
"""A visit that has not left counts for so much longer than its request may last."""

_PURPOSE = Purpose(
    what="The ledger of limits",
    without="Each machine counts for itself.",
    again="takes counts again",
)

_Asked = tuple[Visit, "asyncio.Future[Decision]"]


class ValkeyLedger:
    """See `gateway.ledger.Ledger`."""

    def __init__(self, url: str, own: MachineLedger, *, environment: str) -> None:
        """`own` decides while Valkey does not. Environments are counted apart. Connects to nothing yet."""
        self._own = own
        self._prefix = f"shipway:limits:{environment}:"
        self._link = ValkeyLink(url, _PURPOSE, timeout_s=TIMEOUT_S)
        self._instance = uuid4().hex[:12]
        self._numbers = count()
        self._waiting: list[_Asked] = []
        self._departures: list[Departure] = []
        self._asking: asyncio.Task[None] | None = None

    @property
    def is_shared(self) -> bool:
        """See Ledger."""
        return self._link.is_up

    async def start(self) -> None:
        """Connects, and returns when Valkey answers or had its time to."""
        self._link.start()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._link.reached.wait(), CONNECT_TIMEOUT_S)

    def bound(self, whose: Whose, name: str, limits: CallerLimits | None) -> Bounds:
        """See Ledger."""
        return self._own.bound(whose, name, limits)

    def ask(self, visit: Visit) -> Decision | asyncio.Future[Decision]:
        """See Ledger."""
        if not self._link.is_up:
            return self._own.ask(visit)
        if visit.is_concurrent:
            visit.id = f"{self._instance}.{next(self._numbers)}"
        decision: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting.append((visit, decision))
        self._begin()
        return decision

    def leave(self, visit: Visit) -> None:
        """See Ledger."""
        self._own.leave(visit)
        if visit.id and self._link.is_up:
            bounds = [bound for bound in visit.bounds if bound.is_concurrent]
            self._departures += ((visits_of(self._prefix, bound), visit.id) for bound in bounds)
            self._begin()
        visit.id = ""

    async def keep(self) -> None:
        """See Ledger."""
        await self._own.keep()

    async def close(self) -> None:
        """Ends the connection; idempotent."""
        await self._link.close()
        if self._asking is not None:
            await self._asking
        await self._own.close()

    def _begin(self) -> None:
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask_all())

    async def _ask_all(self) -> None:
        """Asks about all that wait, as many at once as there are, until none does."""
        try:
            while self._waiting or self._departures:
                asked = [one for one in self._waiting[:MOST_AT_ONCE] if not one[1].done()]
                departures = self._departures[:MOST_AT_ONCE]
                del self._waiting[:MOST_AT_ONCE], self._departures[:MOST_AT_ONCE]
                try:
                    await self._ask_about(asked, departures)
                except Exception as exc:  # noqa: BLE001 - the outermost frame of the task
                    log_unexpected(exc, heading=f"{_PURPOSE.what} failed. {_PURPOSE.without}\n")
                self._decide_alone(asked)
        finally:
            self._asking = None

    def _decide_alone(self, asked: Sequence[_Asked]) -> None:
        """Decides about those that Valkey did not decide about."""
        for visit, decision in asked:
            if not decision.done():
                decision.set_result(self._own.ask(visit))

    async def _ask_about(self, asked: Sequence[_Asked], departures: Sequence[Departure]) -> None:
        """Lets Valkey decide, if it does."""
        visits = [visit for visit, _ in asked]
        known = self._own.uses([bound for visit in visits for bound in visit.bounds])
        call = encoded(self._prefix, departures, visits, known)
        reply = await self._link.asked(partial(_decide, *call))
        try:
            now, uses = decoded(reply, visits)
        except (TypeError, ValueError):
            return
        self._link.log.accepts()
        for (visit, decision), settled in zip(asked, uses, strict=True):
            limits = [bound.limits for bound in visit.bounds]
            judgement = judged(limits, settled, cost=visit.cost, wall_s=now)
            self._own.note(visit.bounds, judgement.uses)
            if judgement.refusal is not None:
                visit.id = ""
            elif not decision.done():
                self._own.enter(visit)
            if not decision.done():
                decision.set_result(judgement)


async def _decide(keys: list[str], words: list[str], client: Valkey) -> Any:
    """Runs the script, by its digest where Valkey knows it."""
    return await client.register_script(SCRIPT)(keys=keys, args=words)
