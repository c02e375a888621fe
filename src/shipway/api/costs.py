"""Routes of costs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from shipway.api.guard import Caller
from shipway.api.messages import answer, answers
from shipway.api.services import Services, UsesServices
from shipway.api.sight import may_read_endpoint
from shipway.api.times import utc
from shipway.core.access import SERVER, Principal, Right, permits
from shipway.core.budgets import BudgetStanding
from shipway.core.costs import GROUPS, CostReport
from shipway.core.errors import InvalidRequest
from shipway.core.thrift import Advice, AdviceReport, Unknown

DEFAULT_PERIOD = timedelta(days=30)
SEEN = timedelta(days=2)
"""Advice looks at so long: the busiest minute is known of it."""
router = APIRouter(tags=["costs"])
ANSWERS = [CostReport, BudgetStanding, AdviceReport]

Since = Annotated[datetime | None, Query(description="From then on; 30 days back when left out.")]
Until = Annotated[datetime | None, Query(description="Before then; now when left out.")]


@router.get("/costs", responses={200: answers(CostReport, "The dearest first.")})
def costs(
    services: UsesServices,
    caller: Caller,
    by: Annotated[
        str, Query(description=f"Some of {', '.join(GROUPS)}, with commas.")
    ] = "endpoint",
    since: Since = None,
    until: Until = None,
    endpoint: Annotated[str, Query(description="Of this endpoint alone.")] = "",
) -> Response:
    """What serving cost. Who may not see the whole server asks for one endpoint that it may see."""
    _require(services, caller, endpoint)
    groups = tuple(part.strip() for part in by.split(",") if part.strip())
    for group in groups:
        if group not in GROUPS:
            raise InvalidRequest(
                f"Costs cannot be summed by `{group}`.",
                next_step=f"Use some of: {', '.join(GROUPS)}.",
                path="by",
            )
    now = services.now()
    report = services.costs.report(
        groups,
        since=utc(since) or now - DEFAULT_PERIOD,
        until=utc(until) or now,
        now=now,
        endpoint=endpoint,
    )
    return answer(report)


@router.get("/budgets", responses={200: answers(list[BudgetStanding], "In name order.")})
def budgets(services: UsesServices, caller: Caller) -> Response:
    """Where the budgets of the endpoints that the caller may see stand."""
    found = services.costs.budgets(services.now())
    return answer([one for one in found if may_read_endpoint(services, caller, one.endpoint)])


@router.get("/costs/advice", responses={200: answers(AdviceReport, "The largest saving first.")})
def advice(services: UsesServices, caller: Caller, since: Since = None) -> Response:
    """How the endpoints that the caller may see could cost less."""
    now = services.now()
    found = services.costs.advice(since=utc(since) or now - SEEN, until=now)

    def is_seen(one: Advice | Unknown) -> bool:
        return may_read_endpoint(services, caller, one.endpoint)

    return answer(
        AdviceReport(
            advice=tuple(filter(is_seen, found.advice)),
            unknown=tuple(filter(is_seen, found.unknown)),
        )
    )


def _require(services: Services, caller: Principal, endpoint: str) -> None:
    """Lets pass who may see all costs, or those of this endpoint.

    Raises:
        InvalidRequest: it must name an endpoint that it may see.
    """
    if permits(caller, Right.READ, SERVER):
        return
    if endpoint and may_read_endpoint(services, caller, endpoint):
        return
    raise InvalidRequest(
        "The costs of the whole server are for who may read all of it.",
        next_step="Ask for one endpoint that you may see: `?endpoint=NAME`, `--endpoint NAME`.",
        path="endpoint",
    )
