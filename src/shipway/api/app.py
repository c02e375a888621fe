"""The control API as one FastAPI app."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Depends, FastAPI, Response
from fastapi.openapi.utils import get_openapi

from shipway.api import (
    access,
    alerts,
    audit,
    channels,
    costs,
    endpoints,
    environments,
    evaluations,
    internal,
    metrics,
    models,
    monitors,
    performance,
    predictions,
    promotions,
    rollouts,
    status,
    trust,
)
from shipway.api.described import Problem, with_problems
from shipway.api.faults import add_fault_handlers
from shipway.api.guard import guard
from shipway.api.messages import answer, answers, components
from shipway.api.requests import Requests, Tracing
from shipway.api.rules import PREFIX
from shipway.api.services import Services, UsesServices
from shipway.core.release import VERSION
from shipway.wire.exposition import CONTENT_TYPE
from shipway.wire.policies import policy_schema
from shipway.wire.specs import spec_schema

ROUTERS: tuple[Any, ...] = (
    models,
    access,
    audit,
    costs,
    endpoints,
    rollouts,
    monitors,
    predictions,
    performance,
    environments,
    evaluations,
    promotions,
    trust,
    metrics,
    alerts,
    channels,
    status,
)
"""Modules with a `router`, mounted below `/api/v1`; `ANSWERS` lists the structs they describe."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """That control answers."""

    status: str
    version: str


def create_app(services: Services, *, tracing: Tracing | None = None) -> FastAPI:
    """The app over these services; it starts nothing by itself. With `tracing`, requests have spans."""
    app = FastAPI(
        title="Shipway control API",
        version=VERSION,
        docs_url=f"{PREFIX}/docs",
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        dependencies=[Depends(guard)],
    )
    app.state.services = services
    add_fault_handlers(app)
    app.add_middleware(Requests, tracing=tracing)
    _add_own_routes(app)
    for module in ROUTERS:
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(internal.router, include_in_schema=False)
    # FastAPI's own documented way to extend the schema is to replace the method.
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_own_routes(app: FastAPI) -> None:
    @app.get(f"{PREFIX}/health", responses={200: answers(Health, "Control answers.")})
    def health() -> Response:
        """That control answers, and its version."""
        return answer(Health(status="ok", version=VERSION))

    @app.get("/metrics", include_in_schema=False)
    def metrics_page(services: UsesServices) -> Response:
        """Control's metrics, as Prometheus reads them."""
        return Response(services.exposition.page(), media_type=CONTENT_TYPE.decode())

    @app.get(f"{PREFIX}/schemas/endpoint")
    def endpoint_schema() -> Response:
        """JSON Schema of `EndpointSpec`."""
        return answer(spec_schema())

    @app.get(f"{PREFIX}/schemas/environment")
    def environment_schema() -> Response:
        """JSON Schema of `EnvironmentPolicy`."""
        return answer(policy_schema())


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        kinds = [kind for module in ROUTERS for kind in getattr(module, "ANSWERS", ())]
        described = components([Health, Problem, *kinds])
        parts = schema.setdefault("components", {})
        parts.setdefault("schemas", {}).update(described)
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
        app.openapi_schema = with_problems(schema)
    return app.openapi_schema
