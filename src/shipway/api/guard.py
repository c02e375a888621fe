"""Authentication and authorization in front of every route of the control API."""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request

from shipway.api.peers import peer
from shipway.api.rules import About, Rule, rule_of
from shipway.api.services import Services, services_of
from shipway.core.access import (
    Kind,
    Principal,
    Resource,
    Right,
    lacking,
    permits,
    permits_somewhere,
    sees,
)
from shipway.core.denials import Denial
from shipway.core.errors import (
    EndpointNotFound,
    Forbidden,
    ModelNotFound,
    NotFound,
    StoreUnavailable,
    Unauthenticated,
)
from shipway.store.sql.audit import ORIGIN
from shipway.wire.credentials import credential_of

_ACTOR_LENGTH = 200
UNKNOWN = "unknown"
"""Who was refused, where nobody was proven to have asked."""

AUTHENTICATION = "authentication"
"""What was missing then."""

_log = logging.getLogger(__name__)


async def guard(request: Request) -> None:
    """Lets a request pass, with its principal in `request.state`; every route depends on it.

    Raises:
        Unauthenticated, TooManyAttempts: it is not known who calls.
        Forbidden: who calls lacks the route's right.
        NotFound: nor may they know whether the thing exists.
    """
    services = services_of(request)
    route = request.scope["route"].path
    rule = rule_of(request.method, route)
    if rule is None:
        raise Forbidden(f"There is no rule who may call `{request.method} {route}`.")
    if rule.about is About.NOTHING:
        return
    source = request.client.host if request.client else ""
    asked = f"{request.method} {route}"
    principal = await _identified(services, request, source, asked)
    request.state.principal = principal
    # What is done from here on is done from there; the records of the transaction say so.
    ORIGIN.set(f"{source} key {principal.id}" if principal.id else source)
    resource = rule.resource(request.path_params, services.access.environment)
    try:
        _require(principal, rule, resource)
    except (Forbidden, NotFound):
        assert rule.right is not None
        denial = Denial(
            actor=principal.name,
            right=rule.right.value,
            subject=resource.name,
            route=asked,
            origin=source,
        )
        await _note(services, denial)
        raise


async def _note(services: Services, denial: Denial) -> None:
    """Puts a denial on record. What is refused stays refused when that is not possible."""
    try:
        await anyio.to_thread.run_sync(partial(services.audit.deny, denial, now=services.now()))
    except StoreUnavailable as exc:
        _log.warning("A denial is not on record (%s): %s", denial, exc)


async def _identified(services: Services, request: Request, source: str, asked: str) -> Principal:
    access, now = services.access, services.now()
    headers = {name.lower(): value for name, value in request.headers.raw}
    credential = credential_of(headers)
    access.attempts.require_patience(source, credential or b"", monotonic())
    try:
        principal = await anyio.to_thread.run_sync(
            access.identified, credential, peer(request), now
        )
    except Unauthenticated:
        if credential is not None:
            access.attempts.note_failure(source, monotonic())
        denial = Denial(actor=UNKNOWN, right=AUTHENTICATION, route=asked, origin=source)
        await _note(services, denial)
        raise
    if credential is not None:
        access.attempts.note_success(credential)
    return principal


def _require(principal: Principal, rule: Rule, resource: Resource) -> None:
    if rule.right is None:
        return
    if rule.about is About.ANYTHING:
        if not permits_somewhere(principal, rule.right):
            raise lacking(principal, rule.right, resource)
        return
    require(principal, rule.right, resource)


def require(principal: Principal, right: Right, resource: Resource) -> None:
    """Lets pass who has the right on the resource.

    Raises:
        Forbidden: the principal has not.
        ModelNotFound, EndpointNotFound: nor may it know whether the thing exists.
    """
    if permits(principal, right, resource):
        return
    if not sees(principal, resource):
        kind = ModelNotFound if resource.kind is Kind.MODEL else EndpointNotFound
        raise kind.named(resource.name, ())
    raise lacking(principal, right, resource)


def principal_of(request: Request) -> Principal:
    """Who calls; the guard found out."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


Caller = Annotated[Principal, Depends(principal_of)]


def actor_of(request: Request) -> str:
    """Who acts, as the audit record shall name them.

    Only the key of the state directory speaks for others, by `X-Shipway-Actor`: who has it is the
    administrator of this machine, and the command line names the user of the shell.
    """
    principal = principal_of(request)
    said = request.headers.get("x-shipway-actor", "").strip()[:_ACTOR_LENGTH]
    return said if principal.is_local and said else principal.name


Actor = Annotated[str, Depends(actor_of)]
