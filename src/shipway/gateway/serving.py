"""The request's way: admit → decode → validate → route → infer → encode, whatever the dialect.

Authentication and the prediction log join the line when they are built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
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
from shipway.engines.incidents import log_unexpected
from shipway.gateway.cache import HIT, Found
from shipway.gateway.fallback import response_instead, signature_of
from shipway.gateway.routes import LiveRoute, LiveVariant, RouteTable
from shipway.wire.codec import Codec

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
        route: LiveRoute | None = None
        variant: LiveVariant | None = None
        try:
            route = self._table.route(name)
            route.admit()
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return codec.refuse(known(exc))
        try:
            variant = route.choose(number)
            variant.requests += 1
            asked = codec.decode(message, variant.spec.signature)
            if asked.outputs is not None:
                _require_outputs(asked.outputs, variant)
            inputs = variant.conform(asked.inputs)
            call = variant.runner if variant.cache is None else variant.cache.call(inputs)
            outputs = call.run_now(inputs)
            if outputs is None:
                waiting = _Waiting(codec, route, variant, asked, is_pinned=number is not None)
                return self._answer_later(waiting, partial(call.infer, inputs))
            answer = codec.encode(_response(route, variant, asked, outputs), asked)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            if variant is not None:
                variant.errors += 1
            if number is None and route.fallback is not None and covers(route.fallback, exc):
                return self._fall_back_later(codec, message, route, variant, known(exc))
            route.leave()
            return codec.refuse(known(exc))
        route.leave()
        return answer

    def _answer_later(
        self,
        waiting: _Waiting[A],
        later: Callable[..., Awaitable[Outputs]],
    ) -> asyncio.Task[A]:
        waiting.route.begin(waiting.asked.timeout_s)
        waiting.variant.load.enter()
        task = asyncio.ensure_future(self._awaited(waiting, later))
        # Not a `finally` in the coroutine: one that is cancelled before it starts never gets there.
        task.add_done_callback(partial(_leave, waiting.route, waiting.variant))
        return task

    async def _awaited(self, waiting: _Waiting[A], later: Callable[..., Awaitable[Outputs]]) -> A:
        route, variant, asked = waiting.route, waiting.variant, waiting.asked
        until = monotonic() + _timeout_s(route, asked)
        try:
            outputs = await later(timeout_s=_timeout_s(route, asked))
            route.admission.note_answered()
            return waiting.codec.encode(_response(route, variant, asked, outputs), asked)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            variant.errors += 1
            _note_end(route, asked, exc)
            error = exc
        if waiting.is_pinned or route.fallback is None or not covers(route.fallback, error):
            return waiting.codec.refuse(known(error))
        answer = await self._instead(waiting.codec, route, asked, until=until)
        if answer is None:
            return waiting.codec.refuse(known(error))
        variant.fallbacks += 1
        return answer

    def _fall_back_later(
        self,
        codec: Codec[R, A],
        message: R,
        route: LiveRoute,
        variant: LiveVariant | None,
        error: ShipwayError,
    ) -> asyncio.Task[A]:
        task = asyncio.ensure_future(self._fallen_back(codec, message, route, variant, error))
        task.add_done_callback(partial(_depart, route))
        return task

    async def _fallen_back(
        self,
        codec: Codec[R, A],
        message: R,
        route: LiveRoute,
        variant: LiveVariant | None,
        error: ShipwayError,
    ) -> A:
        try:
            read_by = (
                signature_of(self._table, route) if variant is None else variant.spec.signature
            )
            asked = codec.decode(message, read_by)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return codec.refuse(known(exc))
        until = monotonic() + _timeout_s(route, asked)
        answer = await self._instead(codec, route, asked, until=until)
        if answer is None:
            return codec.refuse(error)
        if variant is not None:
            variant.fallbacks += 1
        return answer

    async def _instead(
        self, codec: Codec[R, A], route: LiveRoute, asked: InferenceRequest, *, until: float
    ) -> A | None:
        """The fallback's answer; None when it has none, and the first error is the answer."""
        try:
            return codec.encode(
                await response_instead(self._table, route, asked, until=until), asked
            )
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            known(exc)
            return None


class _Waiting(Generic[A]):
    """A request that waits for its model. `is_pinned`: its caller asked for this very version."""

    __slots__ = ("asked", "codec", "is_pinned", "route", "variant")

    def __init__(
        self,
        codec: Codec[Any, A],
        route: LiveRoute,
        variant: LiveVariant,
        asked: InferenceRequest,
        *,
        is_pinned: bool,
    ) -> None:
        self.codec = codec
        self.route = route
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


def _leave(route: LiveRoute, variant: LiveVariant, task: asyncio.Task[A]) -> None:
    del task
    variant.load.leave()
    route.end()
    route.leave()


def _depart(route: LiveRoute, task: asyncio.Task[A]) -> None:
    del task
    route.leave()


def known(exc: Exception) -> ShipwayError:
    """The error itself, or the Bug that stands for what nobody expected; that goes to the log."""
    if isinstance(exc, ShipwayError):
        return exc
    log_unexpected(exc)
    return Bug("The gateway failed.", next_step="See the gateway's log.")
