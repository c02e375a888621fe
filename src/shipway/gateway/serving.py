"""The request's way: admit → decode → validate → route → infer → encode, whatever the dialect.

Authentication and the prediction log join the line when they are built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Generic, TypeVar

from shipway.core.errors import (
    Bug,
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    ShipwayError,
)
from shipway.core.fallbacks import covers
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.outputs import Outputs, selected
from shipway.core.telemetry import Column, Outcome, count_answer, outcome_of
from shipway.engines.incidents import log_unexpected
from shipway.gateway.cache import HIT, Found
from shipway.gateway.counters import Row
from shipway.gateway.fallback import response_instead, signature_of
from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.gateway.variants import LiveVariant
from shipway.wire.codec import Codec

_OK = int(Outcome.OK)

R = TypeVar("R")
A = TypeVar("A")


class Serving:
    """Answers inference requests from the current routes, for every door of the gateway."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def answer(
        self, codec: Codec[R, A], message: R, name: str, number: str | None = None
    ) -> A | asyncio.Task[A]:
        """The answer when it is known at once, else the task that makes it. Raises nothing.

        `name` is the endpoint, `number` one version behind it, None for the one that has its turn.
        """
        started = perf_counter()
        route: LiveRoute | None = None
        variant: LiveVariant | None = None
        try:
            route = self._table.route(name)
            route.admit()
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return self._turned_away(codec, route, known(exc), started)
        try:
            variant = route.choose(number)
            asked = codec.decode(message, variant.spec.signature)
            if asked.outputs is not None:
                _require_outputs(asked.outputs, variant)
            inputs = variant.conform(asked.inputs)
            call = variant.runner if variant.cache is None else variant.cache.call(inputs)
            outputs = call.run_now(inputs)
            if outputs is None:
                ending = _Ending(route, variant, started)
                waiting = _Waiting(codec, ending, variant, asked, is_pinned=number is not None)
                return self._answer_later(waiting, partial(call.infer, inputs))
            answer = codec.encode(_response(route, variant, asked, outputs), asked)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            ending = _Ending(route, variant, started)
            if number is None and route.fallback is not None and covers(route.fallback, exc):
                return self._fall_back_later(codec, message, ending, known(exc))
            return _refused(codec, ending, known(exc))
        route.leave_at_once()
        _count(variant.row, _OK, started)
        return answer

    def _turned_away(
        self, codec: Codec[R, A], route: LiveRoute | None, error: ShipwayError, started: float
    ) -> A:
        row = self._table.lost if route is None else route.gate.row
        _count(row, outcome_of(error), started)
        return codec.refuse(error)

    def _answer_later(
        self,
        waiting: _Waiting[A],
        later: Callable[..., Awaitable[Outputs]],
    ) -> asyncio.Task[A]:
        waiting.route.begin(waiting.asked.timeout_s)
        waiting.route.gate.show()
        waiting.variant.load.enter()
        task = asyncio.ensure_future(self._awaited(waiting, later))
        # Not a `finally` in the coroutine: one that is cancelled before it starts never gets there.
        task.add_done_callback(partial(_leave_variant, waiting))
        return task

    async def _awaited(self, waiting: _Waiting[A], later: Callable[..., Awaitable[Outputs]]) -> A:
        route, variant, asked = waiting.route, waiting.variant, waiting.asked
        until = monotonic() + _timeout_s(route, asked)
        try:
            outputs = await later(timeout_s=_timeout_s(route, asked))
            route.admission.note_answered()
            answer = waiting.codec.encode(_response(route, variant, asked, outputs), asked)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            _note_end(route, asked, exc)
            error = known(exc)
        else:
            waiting.ending.outcome = Outcome.OK
            return answer
        if not waiting.is_pinned and route.fallback is not None and covers(route.fallback, error):
            instead = await self._instead(waiting.codec, waiting.ending, asked, until=until)
            if instead is not None:
                return instead
        waiting.ending.outcome = outcome_of(error)
        return waiting.codec.refuse(error)

    def _fall_back_later(
        self, codec: Codec[R, A], message: R, ending: _Ending, error: ShipwayError
    ) -> asyncio.Task[A]:
        ending.route.gate.show()
        task = asyncio.ensure_future(self._fallen_back(codec, message, ending, error))
        task.add_done_callback(partial(_leave, ending))
        return task

    async def _fallen_back(
        self, codec: Codec[R, A], message: R, ending: _Ending, error: ShipwayError
    ) -> A:
        route, variant = ending.route, ending.variant
        try:
            read_by = (
                signature_of(self._table, route) if variant is None else variant.spec.signature
            )
            asked = codec.decode(message, read_by)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            unread = known(exc)
            ending.outcome = outcome_of(unread)
            return codec.refuse(unread)
        until = monotonic() + _timeout_s(route, asked)
        answer = await self._instead(codec, ending, asked, until=until)
        if answer is None:
            ending.outcome = outcome_of(error)
            return codec.refuse(error)
        return answer

    async def _instead(
        self, codec: Codec[R, A], ending: _Ending, asked: InferenceRequest, *, until: float
    ) -> A | None:
        """The fallback's answer; None when it has none, and the first error is the answer."""
        try:
            answer = codec.encode(
                await response_instead(self._table, ending.route, asked, until=until), asked
            )
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            known(exc)
            return None
        ending.row.add(Column.FALLBACKS)
        ending.outcome = Outcome.OK
        return answer


class _Ending:
    """How a request that was let in will be counted. One without an outcome is one whose caller left."""

    __slots__ = ("outcome", "route", "row", "started", "variant")

    def __init__(self, route: LiveRoute, variant: LiveVariant | None, started: float) -> None:
        self.route = route
        self.variant = variant
        self.row = route.gate.row if variant is None else variant.row
        self.started = started
        self.outcome = Outcome.CALLER


class _Waiting(Generic[A]):
    """A request that waits for its model. `is_pinned`: its caller asked for this very version."""

    __slots__ = ("asked", "codec", "ending", "is_pinned", "route", "variant")

    def __init__(
        self,
        codec: Codec[Any, A],
        ending: _Ending,
        variant: LiveVariant,
        asked: InferenceRequest,
        *,
        is_pinned: bool,
    ) -> None:
        self.codec = codec
        self.ending = ending
        self.route = ending.route
        self.variant = variant
        self.asked = asked
        self.is_pinned = is_pinned


def _note_end(route: LiveRoute, asked: InferenceRequest, error: Exception) -> None:
    """Tells the admission what an error says of the model's speed: most say nothing.

    That a caller was impatient says nothing either.
    """
    is_patient = _timeout_s(route, asked) >= route.deadline_s
    if isinstance(error, DeadlineExceeded) and is_patient:
        route.admission.note_expired()
    elif isinstance(error, ModelFailed):
        route.admission.note_answered()


def _timeout_s(route: LiveRoute, asked: InferenceRequest) -> float:
    """The endpoint's deadline, or the caller's own when that is sooner."""
    own = asked.timeout_s
    return route.deadline_s if own is None else min(own, route.deadline_s)


def _response(
    route: LiveRoute, variant: LiveVariant, asked: InferenceRequest, outputs: Outputs
) -> InferenceResponse:
    return InferenceResponse(
        model=route.name,
        version=variant.number,
        outputs=selected(variant.finish(outputs), asked.outputs),
        id=asked.id,
        marks=HIT if isinstance(outputs, Found) else (),
        classes=variant.spec.classes,
    )


def _require_outputs(wanted: Sequence[str], variant: LiveVariant) -> None:
    for name in wanted:
        if name not in variant.output_names:
            raise InvalidRequest(
                f"The model has no output `{name}`.",
                next_step=f"Its outputs are: {', '.join(sorted(variant.output_names))}.",
                path="outputs",
            )


def _refused(codec: Codec[Any, A], ending: _Ending, error: ShipwayError) -> A:
    ending.outcome = outcome_of(error)
    _leave(ending)
    return codec.refuse(error)


def _leave_variant(waiting: _Waiting[A], task: asyncio.Task[A]) -> None:
    waiting.variant.load.leave()
    waiting.route.end()
    _leave(waiting.ending, task)


def _leave(ending: _Ending, task: asyncio.Task[A] | None = None) -> None:
    del task
    ending.route.leave()
    _count(ending.row, ending.outcome, ending.started)


def _count(row: Row, outcome: int, started: float) -> None:
    """Every request comes by here once, when its answer is known or nobody waits for it any more."""
    count_answer(row.values, outcome, perf_counter() - started)


def known(exc: Exception) -> ShipwayError:
    """The error itself, or the Bug that stands for what nobody expected; that goes to the log."""
    if isinstance(exc, ShipwayError):
        return exc
    log_unexpected(exc)
    return Bug("The gateway failed.", next_step="See the gateway's log.")
