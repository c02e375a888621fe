"""The whole server in one answer."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from shipway.api.guard import Caller
from shipway.api.messages import answer, answers
from shipway.api.services import UsesServices
from shipway.api.sight import may_read_endpoint
from shipway.control.views import EndpointView, GatewayView, MemoryView
from shipway.core.release import VERSION


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The server, its live gateways, and its endpoints with their replicas."""

    version: str
    environment: str
    control_url: str
    gateways: tuple[GatewayView, ...]
    endpoints: tuple[EndpointView, ...]
    memory: MemoryView


router = APIRouter(tags=["status"])
ANSWERS = [Status]


@router.get("/status", responses={200: answers(Status, "The server.")})
def status(request: Request, services: UsesServices, caller: Caller) -> Response:
    """Server, gateways and the endpoints that the caller may see."""
    return answer(
        Status(
            version=VERSION,
            environment=services.endpoints.environment,
            control_url=str(request.base_url).rstrip("/"),
            gateways=services.endpoints.gateways(),
            endpoints=tuple(
                e for e in services.endpoints.list() if may_read_endpoint(services, caller, e.name)
            ),
            memory=services.endpoints.memory(),
        )
    )
