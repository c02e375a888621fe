"""The replica processes of one variant: links that are kept, and the choice of one per request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import monotonic, perf_counter

from shipway.core.balancing import Phase, Standing, Tally, judged, others_work, two_of
from shipway.core.errors import (
    DeadlineExceeded,
    ModelFailed,
    QueueFull,
    ReplicaLost,
    ShipwayError,
)
from shipway.core.limits import RetryBudget
from shipway.core.outputs import Outputs
from shipway.core.telemetry import Column, Times
from shipway.core.tensors import Array
from shipway.gateway.counters import Row
from shipway.gateway.traces import TRACE, Call
from shipway.gateway.waking import Waking
from shipway.wire.frames import Pong
from shipway.wire.link import Link, connect
from shipway.wire.snapshot import ReplicaAddress

PING_EVERY_S = 0.4
PING_TIMEOUT_S = 1.0
RECONNECT_MIN_S = 0.05
RECONNECT_MAX_S = 0.5
JUDGE_EVERY_S = 1.0
LATE_S = 0.1
"""A timer that fires so late tells of this process, and not of the replica."""


class _Replica:
    """What is known of one replica. It has a link while it is well."""

    __slots__ = ("foreign", "id", "link", "standing", "tally")

    def __init__(self, replica_id: str) -> None:
        self.id = replica_id
        self.link: Link | None = None
        self.standing = Standing()
        self.tally = Tally()
        self.foreign = 0

    def work(self) -> int:
        """How many requests are inside: ours now, and other gateways' when it was last asked."""
        return self.foreign if self.link is None else self.link.outstanding + self.foreign

    def waits(self) -> bool:
        """Whether it is on trial, and has a request to prove itself with."""
        return self.standing.phase is Phase.TRIAL and self.work() > 0


class ReplicaPool:
    """Links to the replica processes of one variant, kept open, pinged and reconnected.

    The link of a replica that is expected no more takes no new requests, and is closed once those
    inside it are answered. `row` is where second tries are counted.
    """

    def __init__(self, *, on_change: Callable[[], None]) -> None:
        self.row = Row()
        self._deadline_s = 0.0
        self._on_change = on_change
        self._wanted: dict[str, _Replica] = {}
        self._called: list[_Replica] = []
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._retries = RetryBudget(monotonic())
        self._judge_at = 0.0
        self.waking = Waking(on_change=on_change)

    @property
    def is_ready(self) -> bool:
        """Whether at least one replica is connected and answers pings, or a request would wake one."""
        return bool(self._called) or self.waking.is_wakeable

    @property
    def error(self) -> str:
        """Why it cannot be woken; empty when it can, or answers."""
        return "" if self._called else self.waking.error

    @property
    def ready_replicas(self) -> int:
        """How many replicas are connected and answer pings."""
        return sum(one.link is not None for one in self._wanted.values())

    @property
    def ejected(self) -> int:
        """How many replicas are left out of the choice."""
        return sum(one.standing.phase is Phase.OUT for one in self._wanted.values())

    def expect(self, addresses: Iterable[ReplicaAddress], *, deadline_s: float) -> None:
        """Keeps links to exactly these replicas from now on.

        One that is longer than `deadline_s` in a model call is called no more until it is through.
        """
        self._deadline_s = deadline_s
        before = self._wanted
        self._wanted = {r.address: before.get(r.address) or _Replica(r.id) for r in addresses}
        for address in self._wanted.keys() - self._keepers.keys():
            self._keepers[address] = asyncio.ensure_future(self._keep(address))
        self._sort_out()

    def run_now(self, inputs: Mapping[str, Array]) -> Outputs | None:
        """See Runner. A replica is always waited for."""
        return None

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """See Runner. A request whose replica is lost or full is tried once more on another one.

        Both tries share the one deadline, and second tries have a budget.
        """
        until = monotonic() + timeout_s
        self._retries.note_request()
        if not self._called:
            await self._woken(until)
        first = self._chosen()
        try:
            return await self._ask(first, inputs, max(0.0, until - monotonic()))
        except (ReplicaLost, QueueFull) as exc:
            now = monotonic()
            second = self._other_than(first)
            is_held = second is None and self._holds_after(exc)
            if not (second or is_held) or now >= until or not self._retries.take(now):
                raise
            self.row.add(Column.RETRIES)
            if second is None:
                await self._woken(until)
                second = self._chosen()
            return await self._ask(second, inputs, max(0.0, until - monotonic()))

    async def _woken(self, until: float) -> None:
        """Holds a request until there is a replica; refuses it where none will be started for it."""
        if not self.waking.is_wakeable:
            raise self.waking.refusal()
        left_s = max(0.0, until - monotonic())
        await self.waking.until(lambda: bool(self._called), timeout_s=left_s)
        self.row.add(Column.COLD_STARTS)

    def _holds_after(self, error: Exception) -> bool:
        """Whether a request that failed so waits for the next replica: its last one went away."""
        is_lost = isinstance(error, ReplicaLost) and not self._called
        return is_lost and self.waking.is_wakeable

    async def _ask(
        self, replica: _Replica, inputs: Mapping[str, Array], timeout_s: float
    ) -> Outputs:
        trace = TRACE.get()
        call = None if trace is None else trace.begin_call(replica.id)
        if trace is None or call is None:
            return await self._answer_of(replica, inputs, timeout_s)
        try:
            return await self._answer_of(replica, inputs, timeout_s, call, trace.header_for(call))
        except ShipwayError as exc:
            call.error = exc.code
            raise
        finally:
            call.ended = perf_counter()

    async def _answer_of(
        self,
        replica: _Replica,
        inputs: Mapping[str, Array],
        timeout_s: float,
        call: Call | None = None,
        header: str = "",
    ) -> Outputs:
        link, started = replica.link, monotonic()
        if link is None:
            raise ReplicaLost("The connection to the replica is closed.")
        try:
            outputs = await link.infer(
                inputs,
                timeout_s=timeout_s,
                trace=header,
                on_times=self.row.add_times if call is None else partial(self._note_times, call),
            )
        except TimeoutError as exc:
            replica.tally.note_failure()
            raise DeadlineExceeded(
                "No answer within the request's deadline.",
                next_step="Send fewer rows, or raise `limits.deadline_ms` of the endpoint.",
            ) from exc
        except (ReplicaLost, ModelFailed):
            replica.tally.note_failure()
            raise
        replica.tally.note_answer(monotonic() - started)
        return outputs

    def _note_times(self, call: Call, times: Times) -> None:
        call.times = times
        self.row.add_times(times)

    def _chosen(self) -> _Replica:
        """Of two replicas, the one with less work."""
        called = self._called
        if not called:
            raise self.waking.refusal()
        if len(called) == 1:
            return called[0]
        first, second = two_of(len(called), random.random())
        one, other = called[first], called[second]
        if one.waits() or other.waits():
            return self._least_busy(called)
        return one if one.work() <= other.work() else other

    def _other_than(self, replica: _Replica) -> _Replica | None:
        others = [one for one in self._called if one is not replica]
        return self._least_busy(others) if others else None

    @staticmethod
    def _least_busy(replicas: list[_Replica]) -> _Replica:
        return min(replicas, key=lambda one: (one.waits(), one.work()))

    def _sort_out(self) -> None:
        """Computes who is in the choice: all that are linked, when each of them is out."""
        linked = [one for one in self._wanted.values() if one.link is not None]
        called = [one for one in linked if one.standing.phase is not Phase.OUT]
        self._called = called or linked

    def _judge(self, now: float) -> None:
        """Lets those out that do far worse than their peers, and others in again."""
        self._judge_at = now + JUDGE_EVERY_S
        after = judged(
            {address: one.standing for address, one in self._wanted.items()},
            {address: one.tally for address, one in self._wanted.items()},
            now,
        )
        for address, one in self._wanted.items():
            if after[address].phase is one.standing.phase:
                one.tally.fade()
            else:
                one.tally.clear()
            one.standing = after[address]
        self._sort_out()

    async def _keep(self, address: str) -> None:
        """Connects, pings, and connects again, until it is wanted no more."""
        pause_s = RECONNECT_MIN_S
        while address in self._wanted:
            if await self._attend(address):
                pause_s = RECONNECT_MIN_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)
        del self._keepers[address]

    async def _attend(self, address: str) -> bool:
        """Holds one link for as long as its replica is well; gives whether it ever was."""
        link: Link | None = None
        was_well, is_lost = False, True
        try:
            link = await connect(address)
            link.on_lost = partial(self._drop, address, link)
            while link.is_open:
                pong = await _answer_to_ping(link)
                is_done = address not in self._wanted and not link.outstanding
                if is_done or pong.busy_s > self._deadline_s:
                    is_lost = False
                    break
                was_well = True
                self._take(address, link, queued=pong.queued)
                await asyncio.sleep(PING_EVERY_S)
        except (TimeoutError, ReplicaLost):
            pass
        finally:
            if link is not None:
                self._drop(address, link)
                link.close()
        if was_well and is_lost and address in self._wanted:
            self._wanted[address].tally.lost = True
            self._judge(monotonic())
        return was_well

    def _take(self, address: str, link: Link, *, queued: int) -> None:
        replica = self._wanted.get(address)
        if replica is None:
            return
        replica.foreign = others_work(queued, link.outstanding)
        if replica.link is not link:
            replica.link = link
            self._sort_out()
            self.waking.tell()
            self._on_change()
        now = monotonic()
        if now >= self._judge_at:
            self._judge(now)

    def _drop(self, address: str, link: Link) -> None:
        replica = self._wanted.get(address)
        if replica is not None and replica.link is link:
            replica.link = None
            self._sort_out()
            self._on_change()

    def close(self) -> None:
        """See Runner."""
        self._wanted = {}
        self._called = []
        for keeper in self._keepers.values():
            keeper.cancel()
        self._keepers.clear()


async def _answer_to_ping(link: Link) -> Pong:
    """The replica's answer. It is asked again when it was this process that did not come round.

    An answer that arrived meanwhile lies unread then, and every link would seem lost at once.
    """
    asked = monotonic()
    try:
        return await link.ping(timeout_s=PING_TIMEOUT_S)
    except TimeoutError:
        if monotonic() - asked < PING_TIMEOUT_S + LATE_S:
            raise
    return await link.ping(timeout_s=PING_TIMEOUT_S)
