"""The calls about costs. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shipway.client.exchange import Call, reading
from shipway.client.times import text_of
from shipway.core.budgets import BudgetStanding
from shipway.core.costs import CostReport
from shipway.core.thrift import AdviceReport


def report(
    by: Sequence[str], *, since: datetime | None, until: datetime | None, endpoint: str
) -> Call[CostReport]:
    """What serving cost."""
    query = {"by": ",".join(by), "endpoint": endpoint}
    query |= {name: text_of(at) for name, at in (("since", since), ("until", until)) if at}
    return Call(method="GET", path="/api/v1/costs", query=query, read=reading(CostReport))


def budgets() -> Call[tuple[BudgetStanding, ...]]:
    """Where the budgets stand."""
    return Call(method="GET", path="/api/v1/budgets", read=reading(tuple[BudgetStanding, ...]))


def advice(*, since: datetime | None) -> Call[AdviceReport]:
    """How it could cost less."""
    query = {} if since is None else {"since": text_of(since)}
    return Call(method="GET", path="/api/v1/costs/advice", query=query, read=reading(AdviceReport))
