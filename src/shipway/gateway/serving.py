"""The request's way: authenticate → meter → admit → decode → validate → route → infer → encode → record, in any dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, unique
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Generic, TypeVar

from shipway.core.errors import NoReadyReplica, ShipwayError
from shipway.core.fallbacks import covers
from shipway.core.inference import InferenceRequest
from shipway.core.outputs import Outputs
from shipway.core.telemetry import Outcome, outcome_of
from shipway.gateway.doorkeeper import ANYBODYS
from shipway.gateway.fallback import answer_instead, signature_of
from shipway.gateway.faults import known
from shipway.gateway.ledger import Visit
from shipway.gateway.metering import Marked, Metering
from shipway.gateway.recording import Record
from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.gateway.steps import (
    Ending,
    count,
    given,
    leave,
    marks_of,
    note_end,
    require_outputs,
    response_of,
    timeout_s_of,
)
from shipway.gateway.trying import Trying
from shipway.gateway.variants import LiveVariant
from shipway.wire.callers import Sent
from shipway.wire.codec import Codec

_OK = int(Outcome.OK)

R = TypeVar("R", bound=Sent)
A = TypeVar("A", bound=Marked)


@unique
class Stage(Enum):
    """What a request has passed; the codec knows of the others."""

    AUTHENTICATED = "authenticated"
    ADMITTED = "admitted"


class Serving:
    """Answers inference requests from the current routes, for every door of the gateway."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._door = table.door
        self._trying = Trying(table)
        self._metering = Metering(table.ledger)
        self.on_stage: Callable[[Stage], None] | None = None

    def answer(
        self,
        codec: Codec[R, A],
        message: R,
        name: str,
        number: str | None = None,
        *,
        is_admitted: bool = False,
    ) -> A | asyncio.Task[A]:
        """The answer when it is known at once, else the task that makes it. Raises nothing.

        `name` is the endpoint, `number` one version behind it, None for the one that has its turn.
        With `is_admitted`, somebody else has checked the caller, and no limits but the endpoint's count.
        """
        started = perf_counter()
        try:
            caller = ANYBODYS if is_admitted else self._door.admit(message, name)
            bounds = caller.bounds
            route = self._table.route(name)
            if self.on_stage is not None:
                self.on_stage(Stage.AUTHENTICATED)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return self._turned_away(codec, None, known(exc), started)
        if bounds or route.bounds:
            visit = Visit(
                (*bounds, *route.bounds),
                cost=route.cost,
                lasts_s=route.deadline_s,
                size_bytes=message.size_bytes,
            )
            way = partial(
                self._let_in,
                message=message,
                route=route,
                number=number,
                started=started,
                who=caller.name,
            )
            return self._metering.answer(codec, visit, way, route.gate.row)
        return self._let_in(codec, message, route, number, started, caller.name)

    def _let_in(  # noqa: C901, PLR0915 - one function that reads like the line
        self,
        codec: Codec[R, A],
        message: R,
        route: LiveRoute,
        number: str | None,
        started: float,
        who: str,
    ) -> A | asyncio.Task[A]:
        """The answer to a request that no limit holds back, or the task that makes it."""
        variant: LiveVariant | None = None
        try:
            route.admit()
            if self.on_stage is not None:
                self.on_stage(Stage.ADMITTED)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return self._turned_away(codec, route, known(exc), started)
        if route.is_diverted and number is None:
            away = NoReadyReplica(f"Endpoint `{route.name}` is switched to its fallback.")
            return self._fall_back_later(codec, message, Ending(route, None, started), away)
        if route.trial is not None and number is None:
            return self._trying.answer(codec, message, route, route.trial, started, who)
        try:
            variant = route.choose(number)
            asked = codec.decode(message, variant.spec.signature)
            if asked.outputs is not None:
                require_outputs(asked.outputs, variant)
            inputs = variant.conform(asked.inputs)
            recorder = variant.recorder
            record = None if recorder is None else recorder.begin(message, asked, inputs, who)
            call = variant.runner if variant.cache is None else variant.cache.call(inputs)
            outputs = call.run_now(inputs)
            if outputs is None:
                ending = Ending(route, variant, started)
                waiting = _Waiting(
                    codec, ending, variant, asked, record, is_pinned=number is not None
                )
                return self._answer_later(waiting, partial(call.infer, inputs))
            finished = variant.finish(outputs)
            response = response_of(route, variant, asked, finished, marks_of(outputs, record))
            answer = codec.encode(response, asked)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            ending = Ending(route, variant, started)
            if number is None and route.fallback is not None and covers(route.fallback, exc):
                return self._fall_back_later(codec, message, ending, known(exc))
            return _refused(codec, ending, known(exc))
        if record is not None:
            kept = record.keep(finished, route.role_of(variant), started)
            if kept is not None:
                return self._give_later(codec, Ending(route, variant, started), answer, asked, kept)
        route.leave_at_once()
        count(variant.row, _OK, started)
        return answer

    def _give_later(
        self,
        codec: Codec[R, A],
        ending: Ending,
        answer: A,
        asked: InferenceRequest,
        kept: asyncio.Future[None],
    ) -> asyncio.Task[A]:
        """Gives the answer once it is recorded."""
        ending.route.gate.show()
        until = monotonic() + timeout_s_of(ending.route, asked)
        task = asyncio.ensure_future(given(codec, ending, answer, kept, until=until))
        task.add_done_callback(partial(leave, ending))
        return task

    def _turned_away(
        self, codec: Codec[R, A], route: LiveRoute | None, error: ShipwayError, started: float
    ) -> A:
        row = self._table.lost if route is None else route.gate.row
        count(row, outcome_of(error), started)
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
        until = monotonic() + timeout_s_of(route, asked)
        try:
            outputs = await later(timeout_s=timeout_s_of(route, asked))
            route.admission.note_answered()
            finished = variant.finish(outputs)
            record = waiting.record
            response = response_of(route, variant, asked, finished, marks_of(outputs, record))
            answer = waiting.codec.encode(response, asked)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            note_end(route, asked, exc)
            error = known(exc)
        else:
            kept = None
            if record is not None:
                kept = record.keep(finished, route.role_of(variant), waiting.ending.started)
            return await given(waiting.codec, waiting.ending, answer, kept, until=until)
        if not waiting.is_pinned and route.fallback is not None and covers(route.fallback, error):
            instead = await answer_instead(
                self._table, waiting.codec, waiting.ending, asked, until=until
            )
            if instead is not None:
                return instead
        waiting.ending.outcome = outcome_of(error)
        return waiting.codec.refuse(error)

    def _fall_back_later(
        self, codec: Codec[R, A], message: R, ending: Ending, error: ShipwayError
    ) -> asyncio.Task[A]:
        ending.route.gate.show()
        task = asyncio.ensure_future(self._fallen_back(codec, message, ending, error))
        task.add_done_callback(partial(leave, ending))
        return task

    async def _fallen_back(
        self, codec: Codec[R, A], message: R, ending: Ending, error: ShipwayError
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
        until = monotonic() + timeout_s_of(route, asked)
        answer = await answer_instead(self._table, codec, ending, asked, until=until)
        if answer is None:
            ending.outcome = outcome_of(error)
            return codec.refuse(error)
        return answer


class _Waiting(Generic[A]):
    """A request that waits for its model. `is_pinned`: its caller asked for this very version."""

    __slots__ = ("asked", "codec", "ending", "is_pinned", "record", "route", "variant")

    def __init__(
        self,
        codec: Codec[Any, A],
        ending: Ending,
        variant: LiveVariant,
        asked: InferenceRequest,
        record: Record | None,
        *,
        is_pinned: bool,
    ) -> None:
        self.codec = codec
        self.ending = ending
        self.route = ending.route
        self.variant = variant
        self.asked = asked
        self.record = record
        self.is_pinned = is_pinned


def _refused(codec: Codec[Any, A], ending: Ending, error: ShipwayError) -> A:
    ending.outcome = outcome_of(error)
    leave(ending)
    return codec.refuse(error)


def _leave_variant(waiting: _Waiting[A], task: asyncio.Task[A]) -> None:
    waiting.variant.load.leave()
    waiting.route.end()
    leave(waiting.ending, task)
