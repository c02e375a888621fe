"""Routes of the audit record."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from shipway.api.guard import Caller
from shipway.api.messages import answer, answers
from shipway.api.services import UsesServices
from shipway.api.sight import may_audit
from shipway.core.audit import AuditEvent, BrokenLink


class ChainCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the chain holds, and where it breaks when it does not."""

    holds: bool
    broken: BrokenLink | None = None


router = APIRouter(tags=["audit"])
ANSWERS = [AuditEvent, ChainCheck]


@router.get("/audit", responses={200: answers(list[AuditEvent], "Newest first.")})
def list_events(
    services: UsesServices,
    caller: Caller,
    subject: Annotated[
        str | None, Query(description="A name; of a model, also its versions and aliases.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """What was changed, by whom and when, in the projects that the caller audits."""
    newest = services.audit.newest(limit=limit, subject=subject)
    return answer([event for event in newest if may_audit(caller, event.subject)])


@router.get("/audit/check", responses={200: answers(ChainCheck, "The result.")})
def check_chain(services: UsesServices) -> Response:
    """Recomputes the whole hash chain."""
    broken = services.audit.first_broken_link()
    return answer(ChainCheck(holds=broken is None, broken=broken))
