"""What the gateway says of itself: health, metadata, status and statistics, in every dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from shipway.core.errors import NotFound
from shipway.core.release import VERSION
from shipway.core.telemetry import Column, Totals
from shipway.gateway.fronts import Front
from shipway.gateway.http import Request
from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.gateway.variants import LiveVariant
from shipway.gateway.view import View
from shipway.wire import mlflow, tf_serving, torchserve
from shipway.wire.codec import JSON_ONLY, Answer
from shipway.wire.open_inference_admin import VersionCounts, encode_statistics

EXTENSIONS = (
    "binary_tensor_data",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
    "generate",
)

_ALIVE = b'{"status":"alive"}'
_Read = Callable[[View, Sequence[str]], tuple[int, bytes]]


class Reads:
    """Answers what needs no body, from the current routes."""

    def __init__(self, table: RouteTable, front: Front | None = None) -> None:
        self._table = table
        self._front = front
        self._roots: dict[str, _Read] = {
            "v2": self._v2,
            "v1": self._v1,
            "models": self._torchserve,
            "api": self._mlflow,
        }

    def answer(self, request: Request) -> Answer:
        """The answer to a GET.

        Raises:
            Unauthenticated, TooManyAttempts, Forbidden: the caller may not see that.
            NotFound: the path is no route, or names what is not there.
            NoReadyReplica: it asks about an endpoint that has no version yet.
        """
        path = request.path
        if self._front is not None and path in self._front.health_paths:
            return Answer(*_healthy(self._is_ready(self._front.endpoint)), JSON_ONLY)
        parts = path.rstrip("/").split("/")[1:]
        read = self._roots.get(parts[0] if parts else "", self._server)
        return Answer(*read(View(self._table, request), parts), JSON_ONLY)

    def _is_ready(self, name: str) -> bool:
        return any(route.name == name and route.is_ready for route in self._table.routes())

    def _server(self, view: View, parts: Sequence[str]) -> tuple[int, bytes]:
        match parts:
            case []:
                return 200, _ALIVE
            case ["livez"] | ["healthz"]:
                return 200, b'{"live":true}'
            case ["readyz"]:
                return self._server_ready(view)
            case ["ping"] | ["health"]:
                return _healthy(ready=bool(self._table.revision))
            case ["version"]:
                return 200, mlflow.PROTOCOL_RELEASE.encode()
        raise NotFound(
            f"There is no route GET `/{'/'.join(parts)}`.", next_step="Start at GET /v2."
        )

    def _v2(self, view: View, parts: Sequence[str]) -> tuple[int, bytes]:
        match parts[1:]:
            case []:
                members = {"name": "shipway", "version": VERSION, "extensions": EXTENSIONS}
                return 200, _json(members)
            case ["health", "live"]:
                return 200, b'{"live":true}'
            case ["health", "ready"]:
                return self._server_ready(view)
            case ["models", *_, "stats"]:
                return self._statistics(view, parts)
            case ["models", name]:
                return 200, view.route(name).metadata(None)
            case ["models", name, "ready"]:
                return _ready(name, ready=view.route(name).is_ready)
            case ["models", name, "versions", number]:
                return 200, view.route(name).metadata(number)
            case ["models", name, "versions", number, "ready"]:
                return _ready(name, ready=view.route(name).variant(number).runner.is_ready)
        return self._server(view, parts)

    def _statistics(self, view: View, parts: Sequence[str]) -> tuple[int, bytes]:
        routes = list(view.routes())
        match parts[2:-1]:
            case [] if any(route.name == "stats" for route in routes):
                return 200, view.route("stats").metadata(None)
            case []:
                return 200, self._counted(v for route in routes for v in route.variants)
            case [name]:
                return 200, self._counted(view.route(name).variants)
            case [name, "versions", number]:
                return 200, self._counted([view.route(name).variant(number)])
        return self._server(view, parts)

    def _counted(self, variants: Iterable[LiveVariant]) -> bytes:
        return encode_statistics(
            VersionCounts(
                name=variant.endpoint,
                version=variant.number,
                totals=Totals.of(row),
                cache_hits=int(row[Column.CACHE_HITS]),
            )
            for variant, row in self._table.counted(variants)
        )

    def _v1(self, view: View, parts: Sequence[str]) -> tuple[int, bytes]:
        match parts[1:]:
            case ["models"]:
                return 200, tf_serving.encode_models(route.name for route in view.routes())
            case ["models", name]:
                route = view.route(name)
                return _tf_status(route, route.variants, ready=route.is_ready)
            case ["models", name, "metadata"]:
                return self._tf_metadata(view, name, None)
            case ["models", name, "versions", number]:
                route = view.route(name)
                variant = route.variant(number)
                return _tf_status(route, [variant], ready=variant.runner.is_ready)
            case ["models", name, "versions", number, "metadata"]:
                return self._tf_metadata(view, name, number)
        return self._server(view, parts)

    def _tf_metadata(self, view: View, name: str, number: str | None) -> tuple[int, bytes]:
        variant = view.route(name).variant(number)
        return 200, tf_serving.encode_metadata(name, variant.number, variant.spec.signature)

    def _torchserve(self, view: View, parts: Sequence[str]) -> tuple[int, bytes]:
        match parts[1:]:
            case []:
                return 200, torchserve.encode_models(route.name for route in view.routes())
            case [name] | [name, "all"]:
                variants = view.route(name).variants
            case [name, number]:
                variants = [view.route(name).variant(number)]
            case _:
                return self._server(view, parts)
        states = [(variant.number, variant.runner.is_ready) for variant in variants]
        return 200, torchserve.encode_model(parts[1], states)

    def _mlflow(self, view: View, parts: Sequence[str]) -> tuple[int, bytes]:
        match parts[1:]:
            case ["2.0", "endpoints"]:
                routes = view.routes()
                return 200, mlflow.encode_endpoints((r.name, _serving(r)) for r in routes)
            case ["2.0", "endpoints", name]:
                return 200, mlflow.encode_endpoint(name, _serving(view.route(name)))
        return self._server(view, parts)

    def _server_ready(self, view: View) -> tuple[int, bytes]:
        """Ready means: has a snapshot. Endpoints that are not ready are named, and do not count.

        One broken model must not take a gateway with fifty others out of a load balancer. To a probe
        without a key none is named.
        """
        ready = bool(self._table.revision)
        waiting = [route.name for route in view.shown() if not route.is_ready]
        return (200 if ready else 503), _json({"ready": ready, "not_ready": waiting})


def _healthy(ready: bool) -> tuple[int, bytes]:  # noqa: FBT001 - a fact
    status = "Healthy" if ready else "Unhealthy"
    return (200 if ready else 503), _json({"status": status})


def _ready(name: str, *, ready: bool) -> tuple[int, bytes]:
    return (200 if ready else 503), _json({"name": name, "ready": ready})


def _tf_status(
    route: LiveRoute, variants: Iterable[LiveVariant], *, ready: bool
) -> tuple[int, bytes]:
    """KServe's client takes 503 for not ready; TF Serving's reads the states."""
    states = [(v.number, v.runner.is_ready, v.runner.error) for v in variants]
    return (200 if ready else 503), tf_serving.encode_status(route.name, states, ready=ready)


def _serving(route: LiveRoute) -> str:
    return route.variant(None).spec.key if route.variants else ""


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
