"""Routes of keys, and of the roles granted to people, groups and certificates."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from shipway.api.guard import Actor, Caller
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import UsesServices
from shipway.control.access import KeyRequest, KeyView, NewKey, ProjectView
from shipway.core.access import Binding, Grant, PrincipalKind
from shipway.core.rates import CallerLimits

_DAY_S = 24 * 3600
_LONGEST_OVERLAP_S = 90 * _DAY_S


class Whoami(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and what they may do. `key` is the id of their key."""

    name: str
    kind: PrincipalKind
    grants: tuple[Grant, ...]
    key: str = ""


class Granted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subject shall be granted in place of what it has; nothing takes everything away.

    With `before`, only where it has exactly these now; else 409.
    """

    grants: tuple[Grant, ...]
    before: tuple[Grant, ...] | None = None


router = APIRouter(tags=["access"])
ANSWERS = [Whoami, KeyView, NewKey, KeyRequest, Binding, Granted, ProjectView, CallerLimits]


@router.get("/whoami", responses={200: answers(Whoami, "Who calls.")})
def whoami(caller: Caller) -> Response:
    """Who calls, and what they may do."""
    return answer(Whoami(name=caller.name, kind=caller.kind, grants=caller.grants, key=caller.id))


@router.get("/keys", responses={200: answers(list[KeyView], "In the order of names.")})
def list_keys(services: UsesServices, caller: Caller) -> Response:
    """The keys that the caller administers, without their secrets."""
    return answer(services.access.keys(caller, services.now()))


@router.post(
    "/keys",
    status_code=201,
    responses={201: answers(NewKey, "The key, shown this once.")},
    openapi_extra=takes(KeyRequest),
)
def create_key(
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    wanted: Annotated[KeyRequest, body_of(KeyRequest)],
) -> Response:
    """Makes a key with roles that the caller administers."""
    made = services.access.create(wanted, caller, actor=actor, now=services.now())
    return answer(made, status=201)


@router.post(
    "/keys/{key}/rotate",
    status_code=201,
    responses={201: answers(NewKey, "The next key, shown this once.")},
)
def rotate_key(
    key: str,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    overlap_s: Annotated[
        int, Query(ge=0, le=_LONGEST_OVERLAP_S, description="How long the old one stays good.")
    ] = _DAY_S,
) -> Response:
    """Makes the next key in place of one that stays good for a while."""
    overlap = timedelta(seconds=overlap_s)
    made = services.access.rotate(key, caller, overlap=overlap, actor=actor, now=services.now())
    return answer(made, status=201)


@router.delete(
    "/keys/{key}", responses={200: answers(KeyView, "The key, which opens nothing now.")}
)
def revoke_key(
    key: str, services: UsesServices, caller: Caller, actor: Actor, reason: str = ""
) -> Response:
    """Ends a key now."""
    now = services.now()
    return answer(services.access.revoke(key, caller, actor=actor, now=now, reason=reason))


@router.put(
    "/keys/{key}/limits",
    responses={200: answers(KeyView, "The key.")},
    openapi_extra=takes(CallerLimits),
)
def limit_key(
    key: str,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    limits: Annotated[CallerLimits, body_of(CallerLimits)],
) -> Response:
    """Makes what a key may use this; nothing for what its project and endpoints allow."""
    now = services.now()
    return answer(services.access.limit_key(key, limits, caller, actor=actor, now=now))


@router.get("/projects", responses={200: answers(list[ProjectView], "In the order of names.")})
def list_projects(services: UsesServices, caller: Caller) -> Response:
    """The projects that have limits, of those the caller administers."""
    return answer(services.access.projects(caller))


@router.put(
    "/projects/{name}/limits",
    responses={200: answers(ProjectView, "The project.")},
    openapi_extra=takes(CallerLimits),
)
def limit_project(
    name: str,
    services: UsesServices,
    actor: Actor,
    limits: Annotated[CallerLimits, body_of(CallerLimits)],
) -> Response:
    """Makes what all callers of a project's endpoints may use together this."""
    return answer(services.access.limit_project(name, limits, actor=actor, now=services.now()))


@router.get("/access", responses={200: answers(list[Binding], "In the order of subjects.")})
def list_bindings(services: UsesServices, caller: Caller) -> Response:
    """What is granted to people, groups and certificates."""
    return answer(services.access.bindings(caller))


@router.put(
    "/access/{subject}",
    responses={200: answers(Binding, "What the subject has now.")},
    openapi_extra=takes(Granted),
)
def bind(
    subject: str,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    body: Annotated[Granted, body_of(Granted)],
) -> Response:
    """Makes the grants of `user:NAME`, `group:NAME` or `cert:IDENTITY` these."""
    binding = Binding(subject=subject, grants=body.grants)
    now, before = services.now(), body.before
    return answer(services.access.bind(binding, caller, before=before, actor=actor, now=now))
