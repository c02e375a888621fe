"""What answers in place of a version that cannot: another endpoint, another version, a fixed answer."""

from __future__ import annotations

from time import monotonic
from typing import Any, TypeVar

from shipway.core.endpoints import Fallback
from shipway.core.errors import DeadlineExceeded, NoReadyReplica
from shipway.core.fallbacks import named, static_outputs
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.outputs import Outputs, selected
from shipway.core.signature import Signature
from shipway.core.telemetry import Column, Outcome
from shipway.gateway.faults import known
from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.gateway.runners import rows_of
from shipway.gateway.steps import Ending
from shipway.gateway.variants import LiveVariant
from shipway.wire.codec import FALLBACK, Codec

A = TypeVar("A")


def signature_of(table: RouteTable, route: LiveRoute) -> Signature:
    """The signature by which a request is read when no version of the endpoint has its turn yet.

    Raises:
        NoReadyReplica, EndpointNotFound, VersionNotFound: nothing known could answer it.
    """
    fallback = route.fallback
    if fallback is None or fallback.answer is not None:
        return route.variant(None).spec.signature
    return _target(table, route, fallback)[1].spec.signature


async def answer_instead(
    table: RouteTable,
    codec: Codec[Any, A],
    ending: Ending,
    asked: InferenceRequest,
    *,
    until: float,
) -> A | None:
    """The fallback's answer; None when it has none, and the first error is the answer."""
    try:
        answer = codec.encode(
            await response_instead(table, ending.route, asked, until=until), asked
        )
    except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
        known(exc)
        return None
    ending.row.add(Column.FALLBACKS)
    ending.outcome = Outcome.OK
    return answer


async def response_instead(
    table: RouteTable, route: LiveRoute, asked: InferenceRequest, *, until: float
) -> InferenceResponse:
    """The answer of the route's fallback. A fallback of what stands in is not followed.

    `until` is when the request's deadline passes, by the monotonic clock.

    Raises:
        ShipwayError: it cannot answer either; the caller is told the first error.
    """
    fallback = route.fallback
    if fallback is None:
        raise NoReadyReplica(f"Endpoint `{route.name}` has no fallback.")
    if fallback.answer is not None:
        outputs = static_outputs(
            fallback.answer, route.variant(None).spec.signature, rows_of(asked.inputs)
        )
        return _response(route.name, "", asked, outputs, fallback)
    other, variant = _target(table, route, fallback)
    if other is not route:
        other.admit()
        other.gate.show()
    variant.load.enter()  # so that it is not closed meanwhile
    try:
        outputs = await _outputs_of(other, variant, asked, timeout_s=until - monotonic())
    finally:
        variant.load.leave()
        if other is not route:
            other.leave()
    return _response(other.name, variant.number, asked, outputs, fallback)


def _target(
    table: RouteTable, route: LiveRoute, fallback: Fallback
) -> tuple[LiveRoute, LiveVariant]:
    if fallback.endpoint is None:
        return route, route.variant(str(fallback.version))
    other = table.route(fallback.endpoint)
    return other, other.choose(None)


async def _outputs_of(
    route: LiveRoute, variant: LiveVariant, asked: InferenceRequest, *, timeout_s: float
) -> Outputs:
    inputs = variant.conform(asked.inputs)
    outputs = variant.runner.run_now(inputs)
    if outputs is None:
        outputs = await _waited_for(route, variant, inputs, timeout_s=timeout_s)
    return variant.finish(outputs)


async def _waited_for(
    route: LiveRoute, variant: LiveVariant, inputs: Outputs, *, timeout_s: float
) -> Outputs:
    if timeout_s <= 0:
        raise DeadlineExceeded("The deadline passed before the fallback was asked.")
    route.begin(timeout_s)
    try:
        outputs = await variant.runner.infer(inputs, timeout_s=timeout_s)
        route.admission.note_answered()
    finally:
        route.end()
    return outputs


def _response(
    model: str, version: str, asked: InferenceRequest, outputs: Outputs, fallback: Fallback
) -> InferenceResponse:
    if asked.outputs is not None and not set(asked.outputs) <= outputs.keys():
        raise NoReadyReplica("The fallback lacks an output that was asked for.")
    return InferenceResponse(
        model=model,
        version=version,
        outputs=selected(outputs, asked.outputs),
        id=asked.id,
        marks=((FALLBACK, named(fallback).encode("latin-1")),),
    )
