"""Budgets of endpoints: what may be spent in a day or month, and when to say that it will not do."""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec

from shipway.core.signals import Severity

LEAST_ELAPSED = 0.05
"""Of a period: what was spent in less of it says nothing about the rest."""


class Period(StrEnum):
    """What a budget is for, in UTC."""

    DAY = "day"
    MONTH = "month"


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an endpoint may cost in a period. Nothing is switched off; it is said when it is too much."""

    amount: Annotated[float, msgspec.Meta(gt=0)]
    """In the currency of the server's prices."""

    per: Period = Period.MONTH
    """The calendar day or month, in UTC."""

    warn_pct: Annotated[float, msgspec.Meta(gt=0, le=100)] = 80.0
    """A warning once so much of it is spent."""


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """Where a budget stands. `forecast` is what the period will cost at its pace; None too early in it."""

    spent: float
    amount: float
    forecast: float | None
    severity: Severity | None
    message: str


class BudgetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Where an endpoint's budget stands."""

    endpoint: str
    per: str
    currency: str
    standing: Spending


def began(period: Period, now: datetime) -> datetime:
    """When the present period began."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if period is Period.DAY else day.replace(day=1)


def length(period: Period, now: datetime) -> timedelta:
    """How long the present period is."""
    if period is Period.DAY:
        return timedelta(days=1)
    return timedelta(days=monthrange(now.year, now.month)[1])


def spending(budget: Budget, spent: float, now: datetime, *, currency: str) -> Spending:
    """Where a budget stands when so much was spent in its period.

    Critical once it is spent; a warning at `warn_pct`, or when the pace will not do; else no severity.
    """
    share = (now - began(budget.per, now)) / length(budget.per, now)
    forecast = spent / share if share >= LEAST_ELAPSED else None
    pct = 100 * spent / budget.amount
    message = (
        f"{spent:.2f} of {budget.amount:g} {currency} for this {budget.per} are spent ({pct:.0f} %)"
    )
    severity: Severity | None = None
    if spent >= budget.amount:
        severity = Severity.CRITICAL
    elif pct >= budget.warn_pct:
        severity = Severity.WARNING
    elif forecast is not None and forecast > budget.amount:
        severity = Severity.WARNING
        message += f"; at this pace it will be {forecast:.2f}"
    return Spending(
        spent=spent,
        amount=budget.amount,
        forecast=forecast,
        severity=severity,
        message=f"{message}.",
    )
