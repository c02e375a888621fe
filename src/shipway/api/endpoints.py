"""Routes of endpoints."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from shipway.api.guard import Actor, Caller
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import Services, UsesServices
from shipway.api.sight import may_read_endpoint, require_named
from shipway.control.changes import Request
from shipway.control.views import ChangeView, EndpointView
from shipway.core.endpoints import EndpointSpec, Limits, Placement, Residency, Scaling
from shipway.core.errors import InvalidRequest
from shipway.core.strategies import RolloutPlan


class Deployment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which version to put behind the endpoint, and what else of its spec to change."""

    model: str
    dry_run: bool = False
    supersede: bool = False
    reason: str = ""
    environment: str | None = None
    replicas: int | None = None
    placement: Placement | None = None
    limits: Limits | None = None
    scaling: Scaling | None = None
    residency: Residency | None = None
    warm_s: float | None = None
    rollout: RolloutPlan | None = None


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """The last lines that an endpoint's replicas wrote."""

    lines: tuple[str, ...]


router = APIRouter(tags=["endpoints"])
ANSWERS = [EndpointView, ChangeView, Deployment, EndpointSpec, Logs]

DryRun = Annotated[bool, Query(description="Only say what would change.")]
MOST_REASON = 4000
Reason = Annotated[str, Query(max_length=MOST_REASON, description="Why; kept on the audit record.")]
_CHANGED: dict[int | str, dict[str, Any]] = {
    200: answers(ChangeView, "What changes, and the endpoint's state after it.")
}


@router.get("/endpoints", responses={200: answers(list[EndpointView], "In name order.")})
def list_endpoints(services: UsesServices, caller: Caller) -> Response:
    """The endpoints that the caller may see."""
    return answer(
        [e for e in services.endpoints.list() if may_read_endpoint(services, caller, e.name)]
    )


@router.get("/endpoints/{name}", responses={200: answers(EndpointView, "The endpoint.")})
def show_endpoint(name: str, services: UsesServices) -> Response:
    """One endpoint; poll it until `phase` is `live` or `failed`."""
    return answer(services.endpoints.get(name))


@router.put("/endpoints/{name}", responses=_CHANGED, openapi_extra=takes(EndpointSpec))
def apply(
    name: str,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    spec: Annotated[Any, body_of(Any)],
    dry_run: DryRun = False,
    supersede: Annotated[
        bool, Query(description="Take the place of a rollout that is under way.")
    ] = False,
    reason: Reason = "",
) -> Response:
    """Makes the endpoint what the spec says."""
    require_named(services, caller, spec)
    request = _request(services, actor, dry_run=dry_run, supersede=supersede, reason=reason)
    return answer(services.endpoints.apply(name, spec, request))


@router.delete("/endpoints/{name}", responses=_CHANGED)
def delete(
    name: str, services: UsesServices, actor: Actor, dry_run: DryRun = False, reason: Reason = ""
) -> Response:
    """Stops and forgets the endpoint."""
    request = _request(services, actor, dry_run=dry_run, reason=reason)
    return answer(services.endpoints.delete(name, request))


@router.post("/endpoints/{name}/deploy", responses=_CHANGED, openapi_extra=takes(Deployment))
def deploy(
    name: str,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    body: Annotated[dict[str, Any], body_of(dict[str, Any])],
) -> Response:
    """Puts a version behind the endpoint, which is made when it is new."""
    require_named(services, caller, body)
    dry_run, supersede = _flag(body, "dry_run"), _flag(body, "supersede")
    reason = body.pop("reason", "")
    if not isinstance(reason, str) or len(reason) > MOST_REASON:
        raise InvalidRequest(
            f"`reason` is no text of up to {MOST_REASON} characters.", path="reason"
        )
    fields = {key: value for key, value in body.items() if value is not None}
    request = _request(services, actor, dry_run=dry_run, supersede=supersede, reason=reason)
    return answer(services.endpoints.deploy(name, fields, request))


@router.post("/endpoints/{name}/rollback", responses=_CHANGED)
def rollback(
    name: str, services: UsesServices, actor: Actor, dry_run: DryRun = False, reason: Reason = ""
) -> Response:
    """Back to the version that served before."""
    request = _request(services, actor, dry_run=dry_run, reason=reason)
    return answer(services.endpoints.rollback(name, request))


@router.get("/endpoints/{name}/logs", responses={200: answers(Logs, "Oldest line first.")})
def logs(
    name: str, services: UsesServices, tail: Annotated[int, Query(ge=1, le=100_000)] = 200
) -> Response:
    """The last lines of the replicas' logs."""
    return answer(Logs(lines=services.endpoints.logs(name, tail=tail)))


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.pop(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{name}` is not true or false.", path=name)
    return value


def _request(
    services: Services, actor: str, *, dry_run: bool, supersede: bool = False, reason: str
) -> Request:
    return Request(
        actor=actor, now=services.now(), dry_run=dry_run, supersede=supersede, reason=reason
    )
