"""The gateway: authenticate → admit → decode → validate → route → infer → encode → record.

On the way of a request there is no framework, no model of the request, and no database.
Authentication and the prediction log join the line when they are built; today it binds to loopback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from shipway.core.errors import Bug, InvalidRequest, NotFound, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.outputs import Outputs, selected
from shipway.core.release import VERSION
from shipway.core.tensors import Array
from shipway.engines.incidents import log_unexpected
from shipway.gateway.http import Answer, Request
from shipway.gateway.routes import LiveRoute, LiveVariant, RouteTable
from shipway.wire.open_inference import (
    HEADER_LENGTH,
    decode_raw,
    decode_request,
    encode_error,
    encode_response,
)
from shipway.wire.problems import problem_of

EXTENSIONS = ("binary_tensor_data",)

UNKNOWN_LIMIT_BYTES = 1024 * 1024
"""What a body may have on a path that is no endpoint's: enough to be read, and answered with 404."""

_MOST_DIGITS = 18
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_JSON_ONLY = (_JSON,)


class Gateway:
    """Answers callers from the current routes. An `http.Application`."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def handle(self, request: Request) -> Answer | asyncio.Task[Answer]:
        """One exchange: the answer, or the task that makes it."""
        try:
            parts = request.path.split("/")
            if request.method == "POST":
                name, number = _infer_target(parts)
                return self._infer(self._table.route(name), number, request)
            if request.method in ("GET", "HEAD"):
                status, body = self._read(parts)
                return Answer(status, body, _JSON_ONLY)
            raise NotFound(f"There is no route {request.method} `{request.path}`.")
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return self.refuse(_known(exc))

    def body_limit(self, path: str) -> int:
        """The limit of the endpoint that the path names."""
        try:
            return self._table.route(_infer_target(path.split("/"))[0]).max_body_bytes
        except NotFound:
            return UNKNOWN_LIMIT_BYTES

    def refuse(self, error: ShipwayError) -> Answer:
        """The answer that carries an error."""
        problem = problem_of(error)
        extra = ((name.encode(), value.encode()) for name, value in problem.headers.items())
        return Answer(problem.status, encode_error(error), (_JSON, *extra))

    def _infer(
        self, route: LiveRoute, number: str | None, request: Request
    ) -> Answer | asyncio.Task[Answer]:
        route.admit()
        variant: LiveVariant | None = None
        try:
            variant = route.choose(number)
            variant.requests += 1
            asked = _decoded(request, variant)
            inputs = variant.conform(asked.inputs)
            outputs = variant.runner.run_now(inputs)
            if outputs is None:
                return self._infer_later(route, variant, asked, inputs)
            answer = _encoded(route, variant, asked, outputs)
        except Exception:
            if variant is not None:
                variant.errors += 1
            route.leave()
            raise
        route.leave()
        return answer

    def _infer_later(
        self,
        route: LiveRoute,
        variant: LiveVariant,
        asked: InferenceRequest,
        inputs: dict[str, Array],
    ) -> asyncio.Task[Answer]:
        variant.in_flight += 1
        task = asyncio.ensure_future(self._awaited(route, variant, asked, inputs))
        # Not a `finally` in the coroutine: one that is cancelled before it starts never gets there.
        task.add_done_callback(partial(_leave, route, variant))
        return task

    async def _awaited(
        self,
        route: LiveRoute,
        variant: LiveVariant,
        asked: InferenceRequest,
        inputs: dict[str, Array],
    ) -> Answer:
        try:
            outputs = await variant.runner.infer(inputs, timeout_s=route.deadline_s)
            return _encoded(route, variant, asked, outputs)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            variant.errors += 1
            return self.refuse(_known(exc))

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


def _leave(route: LiveRoute, variant: LiveVariant, task: asyncio.Task[Answer]) -> None:
    del task
    variant.in_flight -= 1
    route.leave()


def _known(exc: Exception) -> ShipwayError:
    """The error itself, or the Bug that stands for what nobody expected; that goes to the log."""
    if isinstance(exc, ShipwayError):
        return exc
    log_unexpected(exc)
    return Bug("The gateway failed.", next_step="See the gateway's log.")


def _decoded(request: Request, variant: LiveVariant) -> InferenceRequest:
    length = request.headers.get(HEADER_LENGTH)
    if length is None:
        asked = decode_request(request.body)
    elif not length.isdigit() or len(length) > _MOST_DIGITS:
        raise InvalidRequest("Inference-Header-Content-Length must be a number of bytes.")
    elif int(length) == 0:
        asked = decode_raw(request.body, variant.spec.signature)
    else:
        asked = decode_request(request.body, header_length=int(length))
    if asked.outputs is not None:
        _require_outputs(asked.outputs, variant)
    return asked


def _encoded(
    route: LiveRoute, variant: LiveVariant, asked: InferenceRequest, outputs: Outputs
) -> Answer:
    response = InferenceResponse(
        model=route.name,
        version=variant.number,
        outputs=selected(variant.finish(outputs), asked.outputs),
        id=asked.id,
    )
    body, json_length = encode_response(response, asked.parameters)
    if json_length is None:
        return Answer(200, body, _JSON_ONLY)
    return Answer(200, body, (_BINARY, (HEADER_LENGTH, b"%d" % json_length)))


def _require_outputs(wanted: Sequence[str], variant: LiveVariant) -> None:
    for name in wanted:
        if name not in variant.output_names:
            raise InvalidRequest(
                f"The model has no output `{name}`.",
                next_step=f"Its outputs are: {', '.join(sorted(variant.output_names))}.",
                path="outputs",
            )


def _ready(name: str, *, ready: bool) -> tuple[int, bytes]:
    return (200 if ready else 503), _json({"name": name, "ready": ready})


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
