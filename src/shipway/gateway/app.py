"""The gateway's ASGI application: authenticate → admit → decode → validate → route → infer → encode → record.

Raw ASGI: on the way of a request there is no framework, no model of the request, and no database.
Authentication and the prediction log join the line when they are built; today it binds to loopback.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec

from shipway.core.errors import (
    BodyTooLarge,
    Bug,
    InvalidRequest,
    NotFound,
    ShipwayError,
)
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.outputs import Outputs, selected
from shipway.core.release import VERSION
from shipway.gateway.routes import LiveRoute, LiveVariant, RouteTable
from shipway.wire.open_inference import (
    HEADER_LENGTH,
    decode_raw,
    decode_request,
    encode_error,
    encode_response,
)
from shipway.wire.problems import problem_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

EXTENSIONS = ("binary_tensor_data",)

_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
_BINARY: tuple[bytes, bytes] = (b"content-type", b"application/octet-stream")


class Gateway:
    """Answers callers from the current routes."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP exchange."""
        if scope["type"] != "http":
            return
        try:
            await self._dispatch(scope, receive, send)
        except ShipwayError as exc:
            await _refuse(send, exc)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            sys.stderr.write("".join(traceback.format_exception(exc)))
            await _refuse(send, Bug("The gateway failed.", next_step="See the gateway's log."))

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = scope["path"].split("/")
        method = scope["method"]
        if method == "POST":
            name, number = _infer_target(parts)
            await self._infer(self._table.route(name), number, scope, receive, send)
        elif method in ("GET", "HEAD"):
            status, body = self._read(parts)
            await _send(send, status, [_JSON], body)
        else:
            raise NotFound(f"There is no route {method} `{scope['path']}`.")

    async def _infer(
        self,
        route: LiveRoute,
        number: str | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        route.admit()
        try:
            header_length, body_length = _lengths(scope["headers"])
            body = await _body(receive, body_length, route.max_body_bytes)
            variant = route.choose(number)
            request = (
                decode_raw(body, variant.spec.signature)
                if header_length == 0
                else decode_request(body, header_length=header_length)
            )
            outputs = await _outputs(variant, request, route.deadline_s)
            response = InferenceResponse(
                model=route.name, version=variant.number, outputs=outputs, id=request.id
            )
            answer, json_length = encode_response(response, request.parameters)
        finally:
            route.gate.in_flight -= 1
        headers = [_JSON]
        if json_length is not None:
            headers = [_BINARY, (HEADER_LENGTH, b"%d" % json_length)]
        await _send(send, 200, headers, answer)

    def _read(self, parts: Sequence[str]) -> tuple[int, bytes]:
        """Health and metadata, which need no body."""
        match parts[1:]:
            case ["v2"]:
                return 200, _json({"name": "shipway", "version": VERSION, "extensions": EXTENSIONS})
            case ["v2", "health", "live"] | ["livez"] | ["healthz"]:
                return 200, b'{"live":true}'
            case ["v2", "health", "ready"] | ["readyz"]:
                return self._server_ready()
            case ["v2", "models", name]:
                return 200, self._table.route(name).metadata(None)
            case ["v2", "models", name, "ready"]:
                route = self._table.route(name)
                return _ready(name, ready=route.is_ready)
            case ["v2", "models", name, "versions", number]:
                return 200, self._table.route(name).metadata(number)
            case ["v2", "models", name, "versions", number, "ready"]:
                variant = self._table.route(name).variant(number)
                return _ready(name, ready=variant.runner.is_ready)
            case _:
                raise NotFound(
                    f"There is no route GET `{'/'.join(parts)}`.",
                    next_step="Start at GET /v2.",
                )

    def _server_ready(self) -> tuple[int, bytes]:
        """Ready means: has a snapshot. Endpoints that are not ready are named, and do not count.

        One broken model must not take a gateway with fifty others out of a load balancer.
        """
        ready = bool(self._table.revision)
        waiting = [route.name for route in self._table.routes() if not route.is_ready]
        return (200 if ready else 503), _json({"ready": ready, "not_ready": waiting})


def _infer_target(parts: Sequence[str]) -> tuple[str, str | None]:
    match parts[1:]:
        case ["v2", "models", name, "infer"]:
            return name, None
        case ["v2", "models", name, "versions", number, "infer"]:
            return name, number
        case _:
            raise NotFound(
                f"There is no route POST `{'/'.join(parts)}`.",
                next_step="Predictions are POST /v2/models/NAME/infer.",
            )


async def _outputs(variant: LiveVariant, request: InferenceRequest, deadline_s: float) -> Outputs:
    """Validate → infer → finish, counted on the variant."""
    variant.in_flight += 1
    try:
        if request.outputs is not None:
            _require_outputs(request.outputs, variant)
        inputs = variant.conform(request.inputs)
        outputs = await variant.runner.infer(inputs, timeout_s=deadline_s)
        variant.requests += 1
        return selected(variant.finish(outputs), request.outputs)
    except ShipwayError:
        variant.requests += 1
        variant.errors += 1
        raise
    finally:
        variant.in_flight -= 1


def _require_outputs(wanted: Sequence[str], variant: LiveVariant) -> None:
    for name in wanted:
        if name not in variant.output_names:
            raise InvalidRequest(
                f"The model has no output `{name}`.",
                next_step=f"Its outputs are: {', '.join(sorted(variant.output_names))}.",
                path="outputs",
            )


def _lengths(headers: Headers) -> tuple[int | None, int | None]:
    """The values of Inference-Header-Content-Length and Content-Length."""
    header_length = body_length = None
    for name, value in headers:
        if name == HEADER_LENGTH:
            if not value.isdigit():
                raise InvalidRequest("Inference-Header-Content-Length must be a number.")
            header_length = int(value)
        elif name == b"content-length":
            body_length = int(value)
    return header_length, body_length


async def _body(receive: Receive, announced: int | None, limit: int) -> bytes:
    if announced is not None and announced > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        _require_bounded(len(body), limit)
        return body
    chunks = bytearray(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The caller went away before the body was complete.")
        chunks += message.get("body", b"")
        _require_bounded(len(chunks), limit)
    return bytes(chunks)


def _require_bounded(size: int, limit: int) -> None:
    if size > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is over the endpoint's limit of {limit} bytes.",
        next_step="Send fewer rows, or raise `limits.max_body_bytes` of the endpoint.",
        limit_bytes=limit,
    )


def _ready(name: str, *, ready: bool) -> tuple[int, bytes]:
    return (200 if ready else 503), _json({"name": name, "ready": ready})


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, error: ShipwayError) -> None:
    problem = problem_of(error)
    extra = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    await _send(send, problem.status, [_JSON, *extra], encode_error(error))
