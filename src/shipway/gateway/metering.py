"""Lets requests in by the limits of their callers and endpoints, and tells them what is left.

The header fields are those of draft-ietf-httpapi-ratelimit-headers-06, the last with one field for each
number, which is what clients read: `RateLimit-Limit`, `-Remaining` and `-Reset`, in whole seconds. They are
about the limit that is nearest to its end. Over gRPC they are trailers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Generic, Protocol, Self, TypeVar

from shipway.core.errors import BodyTooLarge, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.rates import Decision, Standing, rate_limited
from shipway.core.signature import Signature
from shipway.core.telemetry import count_answer, outcome_of
from shipway.gateway.counters import Row
from shipway.gateway.ledger import Bounds, Ledger, Visit
from shipway.wire.codec import Codec, Headers


class Marked(Protocol):
    """An answer of any door. `trace_id` is of the trace that a failure belongs to."""

    trace_id: bytes

    def marked(self, marks: Headers) -> Self:
        """The same with these headers (HTTP) or trailers (gRPC) behind its own."""
        ...


R = TypeVar("R")
A = TypeVar("A", bound=Marked)
Way = Callable[[Codec[R, A]], "A | asyncio.Task[A]"]
"""What answers a request that was let in, by a codec."""


class Metering:
    """Asks the ledger before a request goes on its way."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def answer(
        self, codec: Codec[R, A], visit: Visit, way: Way[R, A], row: Row
    ) -> A | asyncio.Task[A]:
        """The answer of the way, or a refusal, which is counted in the row. Raises nothing."""
        started = perf_counter()
        error = too_large(visit.bounds, visit.size_bytes)
        if error is not None:
            return _refused(codec, error, row, started)
        asked = self._ledger.ask(visit)
        if isinstance(asked, Decision):
            return self._decided(codec, visit, way, row, asked)
        task = asyncio.ensure_future(self._asked(codec, visit, way, row, asked))
        task.add_done_callback(partial(self._leave, visit))
        return task

    async def _asked(
        self,
        codec: Codec[R, A],
        visit: Visit,
        way: Way[R, A],
        row: Row,
        asked: asyncio.Future[Decision],
    ) -> A:
        answer = self._decided(codec, visit, way, row, await asked)
        return await answer if isinstance(answer, asyncio.Task) else answer

    def _decided(
        self, codec: Codec[R, A], visit: Visit, way: Way[R, A], row: Row, decision: Decision
    ) -> A | asyncio.Task[A]:
        marks = marks_of(decision.standing)
        marking = Marking(codec, marks) if marks else codec
        if decision.refusal is not None and decision.refused is not None:
            bound = visit.bounds[decision.refused]
            error = rate_limited(bound.whose, bound.name, bound.limits, decision.refusal)
            return _refused(marking, error, row, perf_counter())
        answer = way(marking)
        if visit.is_inside:
            if isinstance(answer, asyncio.Task):
                answer.add_done_callback(partial(self._leave, visit))
            else:
                self._ledger.leave(visit)
        return answer

    def _leave(self, visit: Visit, task: asyncio.Task[Any]) -> None:
        del task
        self._ledger.leave(visit)


class Marking(Generic[R, A]):
    """A dialect whose answers carry some headers more. A codec itself."""

    __slots__ = ("_codec", "_marks")

    def __init__(self, codec: Codec[R, A], marks: Headers) -> None:
        self._codec = codec
        self._marks = marks

    def decode(self, message: R, signature: Signature) -> InferenceRequest:
        """See Codec."""
        return self._codec.decode(message, signature)

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> A:
        """See Codec."""
        return self._codec.encode(response, asked).marked(self._marks)

    def refuse(self, error: ShipwayError) -> A:
        """See Codec."""
        return self._codec.refuse(error).marked(self._marks)


def marks_of(standing: Standing | None) -> Headers:
    """What an answer says of a limit; nothing where none counts requests."""
    if standing is None:
        return ()
    return (
        (b"ratelimit-limit", b"%d" % standing.limit),
        (b"ratelimit-remaining", b"%d" % standing.remaining),
        (b"ratelimit-reset", b"%d" % math.ceil(standing.reset_s)),
    )


def too_large(bounds: Bounds, size_bytes: int) -> BodyTooLarge | None:
    """The error for a body that is over a caller's limit; None for one that fits."""
    for bound in bounds:
        limit = bound.limits.max_body_bytes
        if limit is not None and size_bytes > limit:
            return BodyTooLarge(
                f"The body has {size_bytes} bytes, over the limit of {limit} bytes"
                f" of {bound.whose} `{bound.name}`.",
                next_step="Send fewer rows, or raise its `max_body_bytes`.",
                limit_bytes=limit,
            )
    return None


def _refused(codec: Codec[Any, A], error: ShipwayError, row: Row, started: float) -> A:
    count_answer(row.values, outcome_of(error), perf_counter() - started)
    return codec.refuse(error)
