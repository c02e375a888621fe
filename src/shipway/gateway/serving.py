"""The request's way: admit → decode → validate → route → infer → encode, whatever the dialect.

Authentication and the prediction log join the line when they are built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from shipway.core.errors import Bug, InvalidRequest, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.outputs import Outputs, selected
from shipway.engines.incidents import log_unexpected
from shipway.gateway.cache import HIT, Found
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
                later = partial(call.infer, inputs)
                return self._answer_later(codec, route, variant, asked, later)
            answer = codec.encode(_response(route, variant, asked, outputs), asked)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            if variant is not None:
                variant.errors += 1
            route.leave()
            return codec.refuse(known(exc))
        route.leave()
        return answer

    def _answer_later(
        self,
        codec: Codec[R, A],
        route: LiveRoute,
        variant: LiveVariant,
        asked: InferenceRequest,
        later: Callable[..., Awaitable[Outputs]],
    ) -> asyncio.Task[A]:
        variant.in_flight += 1
        task = asyncio.ensure_future(_awaited(codec, route, variant, asked, later))
        # Not a `finally` in the coroutine: one that is cancelled before it starts never gets there.
        task.add_done_callback(partial(_leave, route, variant))
        return task


async def _awaited(
    codec: Codec[R, A],
    route: LiveRoute,
    variant: LiveVariant,
    asked: InferenceRequest,
    later: Callable[..., Awaitable[Outputs]],
) -> A:
    try:
        outputs = await later(timeout_s=_timeout_s(route, asked))
        return codec.encode(_response(route, variant, asked, outputs), asked)
    except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
        variant.errors += 1
        return codec.refuse(known(exc))


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
    variant.in_flight -= 1
    route.leave()


def known(exc: Exception) -> ShipwayError:
    """The error itself, or the Bug that stands for what nobody expected; that goes to the log."""
    if isinstance(exc, ShipwayError):
        return exc
    log_unexpected(exc)
    return Bug("The gateway failed.", next_step="See the gateway's log.")
