"""The response cache of one variant: kept answers, and one run of the model for equal requests.

A request that finds an answer gets it at once, without a task. Requests that need the same answer at
the same time share a *flight*: a task of the cache's own, which asks the shared store, runs the
model, and keeps what it gave. No caller owns a flight: it ends early only when the last one has left.

A failure is never kept. Those who waited get it, as they would have by themselves; but where the
flight ran out of time, they go on together for what is left of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from time import monotonic
from typing import Any, Protocol

from shipway.core.caching import KeptAnswers, compile_key
from shipway.core.endpoints import Cache
from shipway.core.errors import DeadlineExceeded
from shipway.core.outputs import Outputs
from shipway.core.telemetry import Column
from shipway.core.tensors import Array
from shipway.engines.incidents import log_unexpected
from shipway.gateway.counters import Row
from shipway.gateway.runners import Runner
from shipway.wire.snapshot import Variant

HIT = ((b"x-shipway-cache", b"hit"),)
"""The mark of an answer that was made for an earlier or an equal request."""

MAX_PUTS = 64
"""Answers on their way to a shared store at once; one more is not kept."""


class Found(dict[str, Array]):
    """Outputs that the model was not run for."""


class SharedStore(Protocol):
    """Answers that several gateways share. Losing one, or all, is a miss and never a failure."""

    @property
    def is_up(self) -> bool:
        """Whether asking is worth it now. Never blocks."""
        ...

    def start(self) -> None:
        """Begins to reach the store, in the background; idempotent."""
        ...

    async def get(self, key: bytes) -> Outputs | None:
        """The outputs kept under the key, None for any reason. Raises nothing; takes 50 ms at most."""
        ...

    async def put(self, key: bytes, outputs: Outputs, *, ttl_s: float) -> None:
        """Keeps outputs if it can. Raises nothing; takes 50 ms at most; idempotent."""
        ...


class AnswerCache:
    """The kept answers of one variant, in this process or in a shared store.

    `deadline_s` is how long one run of the model may take. `row` counts answers: those that the model
    was not run for (hits), and those that it was (misses).
    """

    def __init__(
        self,
        spec: Cache,
        variant: Variant,
        runner: Runner,
        *,
        shared: SharedStore | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.spec = spec
        self.deadline_s = 0.0
        self.row = Row()
        self._key_of = compile_key(variant.digest, variant.signature, spec)
        self._runner = runner
        self._shared = shared
        self._clock = clock
        self._kept = KeptAnswers(ttl_s=spec.ttl_s, max_bytes=spec.max_bytes)
        self._flights: dict[bytes, _Flight] = {}
        self._puts: set[asyncio.Task[None]] = set()

    @property
    def is_shared(self) -> bool:
        """Whether answers are kept in a shared store."""
        return self._shared is not None

    @property
    def size_bytes(self) -> int:
        """What the answers kept in this process take; 0 with a shared store."""
        return self._kept.size_bytes

    def call(self, inputs: Mapping[str, Array]) -> Runner | CachedCall:
        """What answers for these inputs, to be asked like a runner."""
        key = self._key_of(inputs)
        return self._runner if key is None else CachedCall(self, key)

    def expire(self) -> None:
        """Lets go of answers whose time is over."""
        self._kept.expire(self._clock())

    def close(self) -> None:
        """Lets everything go; idempotent. For when no request is inside."""
        for flight in self._flights.values():
            flight.task.cancel()
        for put in self._puts:
            put.cancel()

    def find_or_run(self, key: bytes, inputs: Mapping[str, Array]) -> Outputs | None:
        """The answer when it can be had without waiting, else None. Raises what the runner does."""
        outputs = self._kept.get(key, self._clock())
        if outputs is not None:
            return self._hit(outputs)
        if key in self._flights or (self._shared is not None and self._shared.is_up):
            return None
        outputs = self._runner.run_now(inputs)
        if outputs is not None:
            self.row.add(Column.CACHE_MISSES)
            self._keep(key, outputs)
        return outputs

    async def wait_or_run(
        self, key: bytes, inputs: Mapping[str, Array], timeout_s: float
    ) -> Outputs:
        """The answer of the flight under way, or of one that begins. Raises what the runner does."""
        until = monotonic() + timeout_s
        while True:
            flight = self._flights.get(key)
            is_first = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight(self._fly(key, inputs))
                flight.task.add_done_callback(partial(self._forget, key, flight))
            try:
                outputs = await self._landed(key, flight, until)
            except DeadlineExceeded:
                if is_first or monotonic() >= until:
                    raise
                continue
            return self._counted(outputs, is_first=is_first)

    def _counted(self, outputs: Outputs, *, is_first: bool) -> Outputs:
        if is_first and not isinstance(outputs, Found):
            self.row.add(Column.CACHE_MISSES)
            return outputs
        return self._hit(outputs)

    def _hit(self, outputs: Outputs) -> Found:
        self.row.add(Column.CACHE_HITS)
        return Found(outputs)

    async def _landed(self, key: bytes, flight: _Flight, until: float) -> Outputs:
        """What the flight brings, when it comes in time."""
        flight.waiting += 1
        try:
            # Not `await task`: that would cancel it along with the first caller who leaves.
            done, _ = await asyncio.wait((flight.task,), timeout=max(0.0, until - monotonic()))
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._forget(key, flight, flight.task)
                flight.task.cancel()
        if not done:
            raise DeadlineExceeded(
                "No answer within the deadline.",
                next_step="Send fewer rows, or raise `limits.deadline_ms` of the endpoint.",
            )
        return flight.task.result()

    async def _fly(self, key: bytes, inputs: Mapping[str, Array]) -> Outputs:
        if self._shared is not None:
            kept = await self._shared.get(key)
            if kept is not None:
                return Found(kept)
        outputs = self._runner.run_now(inputs)
        if outputs is None:
            outputs = await self._runner.infer(inputs, timeout_s=self.deadline_s)
        self._keep(key, outputs)
        return outputs

    def _keep(self, key: bytes, outputs: Outputs) -> None:
        if self._shared is None:
            self._kept.put(key, outputs, self._clock())
        elif self._shared.is_up and len(self._puts) < MAX_PUTS:
            put = asyncio.ensure_future(self._shared.put(key, outputs, ttl_s=self.spec.ttl_s))
            self._puts.add(put)
            put.add_done_callback(self._has_put)

    def _has_put(self, put: asyncio.Task[None]) -> None:
        self._puts.discard(put)
        error = None if put.cancelled() else put.exception()
        if error is not None:
            log_unexpected(error)

    def _forget(self, key: bytes, flight: _Flight, task: asyncio.Task[Outputs]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if task.done() and not task.cancelled():
            task.exception()  # nobody may be left to ask for it


class CachedCall:
    """One request on its way through the cache; the two questions of a `Runner`."""

    __slots__ = ("_cache", "_key")

    def __init__(self, cache: AnswerCache, key: bytes) -> None:
        self._cache = cache
        self._key = key

    def run_now(self, inputs: Mapping[str, Array]) -> Outputs | None:
        """See Runner."""
        return self._cache.find_or_run(self._key, inputs)

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """See Runner. Its failures may be those of an equal request that asked first."""
        return await self._cache.wait_or_run(self._key, inputs, timeout_s)


class _Flight:
    __slots__ = ("task", "waiting")

    def __init__(self, run: Coroutine[Any, Any, Outputs]) -> None:
        self.task = asyncio.ensure_future(run)
        self.waiting = 0


def cache_for(
    spec: Cache | None,
    variant: Variant,
    runner: Runner,
    *,
    before: AnswerCache | None,
    shared: SharedStore | None,
) -> AnswerCache | None:
    """The cache that a variant has from now on; the one from before when its spec and place are the same.

    Another `ttl_s` or `max_bytes` begins with nothing kept.
    """
    if spec is None:
        return None
    if before is not None and before.spec == spec and before.is_shared == (shared is not None):
        return before
    cache = AnswerCache(spec, variant, runner, shared=shared)
    if shared is not None:
        shared.start()
    return cache
