"""What serving cost, hour by hour; where budgets stand; and how it could cost less."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from shipway.core.budgets import BudgetStanding, Period, began, spending
from shipway.core.costs import Charge, CostReport, Prices, Resources, Usage, charged, summed
from shipway.core.repeats import Repeats
from shipway.core.signals import Severity, Signal
from shipway.core.surges import Surge, compared_hours, surge_of
from shipway.core.telemetry import Name
from shipway.core.thrift import AdviceReport, Observed, Unknown, advised, may_need_cache
from shipway.store.sql.database import Database

HOUR = timedelta(hours=1)
MOST_AT_ONCE = 24 * 31
"""So many hours are caught up at once, after control was away."""

BUDGET_RULE, COST_RULE = "budget", "cost"
"""The alert rules of budgets, and of hours that cost far more than usual."""

_log = logging.getLogger(__name__)


class HourUse(msgspec.Struct, frozen=True, kw_only=True):
    """What ran between two times: the versions with their replicas, and what gateways and control used."""

    usages: tuple[Usage, ...] = ()
    shared: Resources = Resources()


class UseSource(Protocol):
    """Where it is known what ran."""

    def used(self, since: datetime, until: datetime) -> HourUse | None:
        """What ran between the two; None where nothing is known. May block; raises StoreUnavailable."""
        ...

    def observed(self, since: datetime, until: datetime) -> Sequence[Observed]:
        """What advice is given on, by version. May block; raises StoreUnavailable."""
        ...


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Repeated requests by endpoint and version, and of which they could not be counted."""

    repeats: Mapping[Name, Repeats] = {}
    unknown: tuple[Unknown, ...] = ()


class RepeatSource(Protocol):
    """Where it is known how many requests asked what was asked before."""

    def counted(self, versions: Sequence[Observed], until: datetime) -> Counted:
        """Of versions that have something to compare by. Blocks for seconds at most.

        A log that is away is no error: it leaves them unknown.
        """
        ...


class Costs:
    """The costs of one environment. Thread-safe; methods block, and raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        source: UseSource,
        *,
        repeats: RepeatSource,
        environment: str,
        prices: Prices,
    ) -> None:
        self._database = database
        self._source = source
        self._repeats = repeats
        self._environment = environment
        self.prices = prices

    def charge(self, now: datetime) -> int:
        """Charges the hours that have ended since the last one charged; gives their number.

        An hour is charged once, whoever else does it at the same time, at the prices of now.
        """
        present = _hour(now)
        last = self._newest(present)
        first = present - HOUR if last is None else last + HOUR
        hours = [first + n * HOUR for n in range(max(0, (present - first) // HOUR))]
        for hour in hours[-MOST_AT_ONCE:]:
            self._charge_hour(hour)
        return len(hours[-MOST_AT_ONCE:])

    def report(
        self,
        by: Sequence[str],
        *,
        since: datetime,
        until: datetime,
        now: datetime,
        endpoint: str = "",
    ) -> CostReport:
        """Sums of the charges between two times."""
        found = self._charges(since, until, now, endpoint=endpoint)
        return CostReport(
            since=since,
            until=until,
            by=tuple(by),
            rows=summed(found, by),
            prices=self.prices,
        )

    def budgets(self, now: datetime) -> tuple[BudgetStanding, ...]:
        """Where the budgets of all endpoints that have one stand, in name order."""
        with self._database.reading() as tx:
            specs = [s.spec for s in tx.endpoints.list() if s.spec.environment == self._environment]
        limits = {spec.name: spec.budget for spec in specs if spec.budget is not None}
        spent = self._spent({budget.per for budget in limits.values()}, now)
        return tuple(
            BudgetStanding(
                endpoint=name,
                per=budget.per,
                currency=self.prices.currency,
                standing=spending(
                    budget, spent[budget.per].get(name, 0.0), now, currency=self.prices.currency
                ),
            )
            for name, budget in limits.items()
        )

    def _spent(
        self, periods: Collection[Period], now: datetime
    ) -> dict[Period, Mapping[str, float]]:
        """By period and endpoint, what it cost until now."""
        if not periods:
            return {}
        currency = self.prices.currency
        with self._database.reading() as tx:
            closed = {
                per: tx.charges.spent(
                    self._environment, began(per, now), _hour(now), currency=currency
                )
                for per in periods
            }
        for one in self._present(now):
            for spent in closed.values():
                if one.currency == currency:
                    spent[one.endpoint] = spent.get(one.endpoint, 0.0) + one.total
        return {**closed}

    def signals(self, now: datetime) -> tuple[Signal, ...]:
        """What the budgets, and the last hour that was charged, say to the alerts."""
        return (
            *(_signal(self._environment, view, now) for view in self.budgets(now)),
            *self._surges(now),
        )

    def _surges(self, now: datetime) -> Iterable[Signal]:
        with self._database.reading() as tx:
            hour = tx.charges.newest_hour(self._environment)
            if hour is None:
                return
            days, weeks = compared_hours(hour)
            found = tx.charges.at(self._environment, (hour, *days, *weeks))
        spent: dict[str, dict[datetime, float]] = {}
        for one in found:
            if one.currency == self.prices.currency and one.endpoint:
                hours = spent.setdefault(one.endpoint, {})
                hours[one.hour] = hours.get(one.hour, 0.0) + one.total
        for endpoint, hours in sorted(spent.items()):
            surge = surge_of(
                hours.get(hour, 0.0),
                [hours[at] for at in days if at in hours],
                [hours[at] for at in weeks if at in hours],
            )
            if surge is not None:
                yield self._surge_signal(endpoint, hour, surge, now)

    def _surge_signal(self, endpoint: str, hour: datetime, surge: Surge, now: datetime) -> Signal:
        return Signal(
            environment=self._environment,
            endpoint=endpoint,
            rule=COST_RULE,
            at=now,
            is_firing=surge.is_odd,
            summary=(
                f"The hour from {hour:%H:%M} UTC cost {surge.spent:.2f} {self.prices.currency}; at this time"
                f" it usually is {surge.usual:.2f}."
            ),
            numbers={"spent": surge.spent, "usual": surge.usual, "z": surge.z},
            since=hour,
            next_step=f"`shipway cost --endpoint {endpoint} --by hour,version` shows since when, and of what.",
        )

    def advice(self, *, since: datetime, until: datetime) -> AdviceReport:
        """How the endpoints could cost less."""
        observed = self._source.observed(since, until)
        asked = [seen for seen in observed if may_need_cache(seen, self.prices)]
        counted = self._repeats.counted(asked, until) if asked else Counted()
        found = [
            one
            for seen in observed
            for one in advised(
                seen, self.prices, repeats=counted.repeats.get((seen.endpoint, seen.version))
            )
        ]
        return AdviceReport(
            advice=tuple(sorted(found, key=lambda one: -one.saving)), unknown=counted.unknown
        )

    def _newest(self, present: datetime) -> datetime | None:
        """The last hour that was charged. What a clock that ran ahead charged is forgotten: it comes again.

        Not more than can be caught up: then it is the present clock that is wrong, or nothing could tell.
        """
        with self._database.reading() as tx:
            newest = tx.charges.newest_hour(self._environment)
        if newest is None or newest < present:
            return newest
        if newest - present >= MOST_AT_ONCE * HOUR:
            _log.warning(
                "It is %s, and costs are charged up to %s: none are until then", present, newest
            )
            return newest
        with self._database.transaction() as tx:
            tx.charges.forget(self._environment, since=present)
            return tx.charges.newest_hour(self._environment)

    def _charge_hour(self, hour: datetime) -> None:
        use = self._source.used(hour, hour + HOUR) or HourUse()
        found = charged(use.usages, use.shared, self.prices, hour=hour) or (self._nothing(hour),)
        with self._database.transaction() as tx:
            newest = tx.charges.newest_hour(self._environment)
            if newest is None or newest < hour:
                tx.charges.put(self._environment, found)

    def _nothing(self, hour: datetime) -> Charge:
        return Charge(
            hour=hour,
            endpoint="",
            version="",
            tenant="",
            use_case="",
            requests=0,
            own=0.0,
            shared=0.0,
            currency=self.prices.currency,
        )

    def _charges(
        self, since: datetime, until: datetime, now: datetime, *, endpoint: str
    ) -> Iterable[Charge]:
        present = _hour(now)
        with self._database.reading() as tx:
            closed = tx.charges.between(self._environment, _hour(since), until, endpoint=endpoint)
        # The hour under way is added once, though somebody charges it meanwhile.
        yield from (one for one in closed if one.hour != present)
        if since <= now and until > present:
            for one in self._present(now):
                if not endpoint or one.endpoint == endpoint:
                    yield one

    def _present(self, now: datetime) -> tuple[Charge, ...]:
        """What the hour under way cost: so far, or what it is charged already, by a clock that ran ahead."""
        present = _hour(now)
        with self._database.reading() as tx:
            found = tx.charges.at(self._environment, (present,))
        if found:
            return found
        use = self._source.used(present, now) or HourUse()
        return tuple(charged(use.usages, use.shared, self.prices, hour=present))


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _signal(environment: str, view: BudgetStanding, now: datetime) -> Signal:
    standing = view.standing
    numbers = {"spent": standing.spent, "amount": standing.amount}
    if standing.forecast is not None:
        numbers["forecast"] = standing.forecast
    return Signal(
        environment=environment,
        endpoint=view.endpoint,
        rule=BUDGET_RULE,
        at=now,
        is_firing=standing.severity is not None,
        severity=standing.severity or Severity.WARNING,
        summary=standing.message,
        numbers=numbers,
        next_step=f"`shipway cost --endpoint {view.endpoint} --by day` shows what it was spent on.",
    )
