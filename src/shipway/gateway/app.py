"""The gateway's HTTP door: a path names a dialect and an endpoint, and `Serving` does the rest.

On the way of a request there is no framework, no model of the request, and no database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from shipway.core.errors import NotFound, ShipwayError
from shipway.core.release import VERSION
from shipway.gateway.http import Request
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving, known
from shipway.wire.codec import JSON_ONLY, Answer
from shipway.wire.open_inference import OpenInference

EXTENSIONS = ("binary_tensor_data",)

UNKNOWN_LIMIT_BYTES = 1024 * 1024
"""What a body may have on a path that is no endpoint's: enough to be read, and answered with 404."""

_OPEN_INFERENCE = OpenInference()


class Gateway:
    """Answers callers from the current routes. An `http.Application`."""

    def __init__(self, table: RouteTable, serving: Serving) -> None:
        self._table = table
        self._serving = serving

    def handle(self, request: Request) -> Answer | asyncio.Task[Answer]:
        """One exchange: the answer, or the task that makes it."""
        try:
            parts = request.path.split("/")
            if request.method == "POST":
                name, number = _infer_target(parts)
                return self._serving.answer(_OPEN_INFERENCE, request, name, number)
            if request.method in ("GET", "HEAD"):
                status, body = self._read(parts)
                return Answer(status, body, JSON_ONLY)
            raise NotFound(f"There is no route {request.method} `{request.path}`.")
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return self.refuse(known(exc))

    def body_limit(self, path: str) -> int:
        """The limit of the endpoint that the path names."""
        try:
            return self._table.route(_infer_target(path.split("/"))[0]).max_body_bytes
        except NotFound:
            return UNKNOWN_LIMIT_BYTES

    def refuse(self, error: ShipwayError) -> Answer:
        """The answer that carries an error."""
        return _OPEN_INFERENCE.refuse(error)

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


def _ready(name: str, *, ready: bool) -> tuple[int, bytes]:
    return (200 if ready else 503), _json({"name": name, "ready": ready})


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
