"""Routes of keys, and of the roles granted to people, groups and certificates."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from shipway.api.guard import Actor, Caller
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import UsesServices
from shipway.control.access import KeyRequest, KeyView, NewKey
from shipway.core.access import Binding, Grant, PrincipalKind

_DAY_S = 24 * 3600
_LONGEST_OVERLAP_S = 90 * _DAY_S


class Whoami(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and what they may do. `key` is the id of their key."""

    name: str
    kind: PrincipalKind
    grants: tuple[Grant, ...]
    key: str = ""


class Granted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subject shall be granted in place of what it has; nothing takes everything away."""

    grants: tuple[Grant, ...]


router = APIRouter(tags=["access"])
ANSWERS = [Whoami, KeyView, NewKey, KeyRequest, Binding, Granted]


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
    return answer(services.access.bind(binding, caller, actor=actor, now=services.now()))
