"""Routes of the audit record."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response

from shipway.api.guard import Actor, Caller
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import UsesServices
from shipway.api.sight import may_audit
from shipway.api.times import utc
from shipway.core.audit import AuditEvent, AuditQuery
from shipway.core.errors import NotFound
from shipway.core.heads import KeyChange
from shipway.core.retention import Pruned
from shipway.core.verification import ChainPage, ChainVerdict

_LATEST = 2**31 - 1
Number = Annotated[int, Query(ge=0, le=_LATEST)]


class PruneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Until when to archive, as far as policies allow; only what they let go when left out."""

    before: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    dry_run: bool = False


router = APIRouter(tags=["audit"])
ANSWERS = [AuditEvent, ChainPage, ChainVerdict, Pruned, KeyChange, PruneRequest]


@router.get("/audit", responses={200: answers(list[AuditEvent], "Newest first.")})
def list_events(
    services: UsesServices,
    caller: Caller,
    subject: Annotated[
        str | None, Query(description="A name; of a model, also its versions and aliases.")
    ] = None,
    actor: Annotated[str | None, Query(description="Who did it.")] = None,
    action: Annotated[
        str | None, Query(description="An action such as `alias.set`, or its noun.")
    ] = None,
    since: Annotated[datetime | None, Query(description="From then on.")] = None,
    until: Annotated[datetime | None, Query(description="Before then.")] = None,
    before: Annotated[
        int | None, Query(ge=1, le=_LATEST, description="With a lower number: the next page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """What was changed or refused, by whom, when and from where, in the projects that the caller audits."""
    query = AuditQuery(
        subject=subject,
        actor=actor,
        action=action,
        since=utc(since),
        until=utc(until),
        before=before,
        limit=limit,
    )
    found = services.audit.matching(query)
    return answer([event for event in found if may_audit(caller, event.subject)])


@router.get("/audit/check", responses={200: answers(ChainVerdict, "The result.")})
def check_chain(
    services: UsesServices,
    archives: Annotated[bool, Query(description="Also what was archived.")] = False,
) -> Response:
    """Recomputes the whole hash chain, and compares it with the signed heads."""
    return answer(services.seals.verify(archives=archives))


@router.get("/audit/chain", responses={200: answers(ChainPage, "Oldest first.")})
def chain_page(
    services: UsesServices,
    after: Annotated[int | None, Query(ge=0, le=_LATEST)] = None,
    heads_after: Number = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> Response:
    """The chain with its signed heads, page by page, for an export."""
    return answer(services.audit.page(after=after, heads_after=heads_after, limit=limit))


@router.get("/audit/{sequence}", responses={200: answers(AuditEvent, "The event.")})
def show_event(
    sequence: Annotated[int, Path(ge=1, le=_LATEST)], services: UsesServices, caller: Caller
) -> Response:
    """One event of a project that the caller audits."""
    event = services.audit.get(sequence)
    if not may_audit(caller, event.subject):
        raise NotFound(f"There is no event {sequence} in the projects that you audit.")
    return answer(event)


@router.post(
    "/audit/prune",
    responses={200: answers(Pruned, "What was archived.")},
    openapi_extra=takes(PruneRequest),
)
def prune(
    services: UsesServices, actor: Actor, wanted: Annotated[PruneRequest, body_of(PruneRequest)]
) -> Response:
    """Moves the oldest events into a sealed archive on the server."""
    now = services.now()
    done = services.pruning.prune(
        before=wanted.before, actor=actor, now=now, dry_run=wanted.dry_run
    )
    return answer(done)


@router.post("/audit/rotate-key", responses={200: answers(KeyChange, "Both public keys.")})
def rotate_key(services: UsesServices, actor: Actor) -> Response:
    """Replaces the key that signs the chain's heads."""
    return answer(services.seals.rotate(actor=actor, now=services.now()))
