"""What the rules of an environment's endpoints say now, as signals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from time import monotonic
from typing import Protocol

import msgspec

from shipway.control.alerting.conditions import state_signal
from shipway.control.history import Period
from shipway.control.views import Seen
from shipway.core.alerts.defaults import SERVER_RULES
from shipway.core.alerts.judging import judged
from shipway.core.alerts.plan import rules_of
from shipway.core.alerts.rules import DAY_S, Absence, BurnRate, Measuring, Reported, State
from shipway.core.endpoints import EndpointState
from shipway.core.errors import DependencyError, InvalidRequest
from shipway.core.signals import Signal
from shipway.store.sql.database import Database

_log = logging.getLogger(__name__)

_PAST_S = 600.0
"""What a day ago was measured holds for so long: the same time yesterday moves slowly."""


class Ask(Protocol):
    """Gives the measures of all endpoints in a period."""

    def __call__(self, *, since: datetime, until: datetime) -> Period:
        """See `control.history.Measures.period`."""
        ...


class _Kept(msgspec.Struct, frozen=True):
    period: Period
    until_s: float


class Measures:
    """What is measured in the windows that the rules of all endpoints look at, each asked for once in a look.

    A window is asked for no more often than it can have changed: anew after a hundredth of it.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._is_away = False
        self._unknown: set[str] = set()
        self._kept: dict[tuple[float, float], _Kept] = {}

    def begin(self) -> None:
        """Begins a look: who was away is asked again, and what has to be asked for anew is let go."""
        self._is_away = False
        at_s = monotonic()
        self._kept = {k: kept for k, kept in self._kept.items() if kept.until_s > at_s}

    def of(self, endpoint: str, now: datetime) -> Callable[[str, float, float], float | None]:
        """The measures of an endpoint, for the rules."""

        def measured(name: str, ago_s: float, over_s: float) -> float | None:
            if self._is_away:
                return None
            try:
                return self._period(ago_s, over_s, now)(name, endpoint)
            except DependencyError as exc:
                # Each question may wait long: the others of this look are not asked.
                self._is_away = True
                _log.warning("What is measured cannot be asked for now: %s", exc)
                return None
            except InvalidRequest as exc:
                # A rule on what nobody measures must not keep the others from being looked at.
                if name not in self._unknown:
                    _log.warning("Alert rules cannot be judged by `%s`: %s", name, exc)
                self._unknown.add(name)
                return None

        return measured

    def _period(self, ago_s: float, over_s: float, now: datetime) -> Period:
        kept = self._kept.get((ago_s, over_s))
        if kept is None:
            until = now - timedelta(seconds=ago_s)
            period = self._ask(since=until - timedelta(seconds=over_s), until=until)
            lasts_s = _PAST_S if ago_s >= DAY_S else over_s / 100.0
            kept = self._kept[ago_s, over_s] = _Kept(period, monotonic() + lasts_s)
        return kept.period


class Evaluation:
    """Evaluates the rules. For one thread; blocks, and may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        *,
        environment: str,
        seen: Callable[[], Seen],
        ask: Ask,
    ) -> None:
        self._database = database
        self._environment = environment
        self._seen = seen
        self._measures = Measures(ask)
        self._began: datetime | None = None

    def signals(self, now: datetime) -> list[Signal]:
        """What each rule says now; nothing of rules that something is missing for."""
        with self._database.reading() as tx:
            states = [s for s in tx.endpoints.list() if s.spec.environment == self._environment]
        seen = self._seen()
        self._measures.begin()
        self._began = min(self._began or now, now)
        return [*self._of_server(states, seen, now), *self._of_endpoints(states, seen, now)]

    def _of_server(
        self, states: list[EndpointState], seen: Seen, now: datetime
    ) -> Iterator[Signal]:
        for rule in SERVER_RULES:
            if isinstance(rule, State):
                signal = state_signal(rule, self._environment, None, states, seen, now)
                if signal is not None:
                    yield signal

    def _of_endpoints(
        self, states: list[EndpointState], seen: Seen, now: datetime
    ) -> Iterator[Signal]:
        for state in states:
            for rule in rules_of(state.spec.alerts):
                if isinstance(rule, Reported):
                    continue
                signal = (
                    state_signal(rule, self._environment, state, states, seen, now)
                    if isinstance(rule, State)
                    else self._measured(rule, state, now)
                )
                if signal is not None:
                    yield signal

    def _has_looked(self, over_s: float, now: datetime) -> bool:
        """Whether somebody has looked for so long: that nobody did is not that nobody came."""
        return self._began is not None and now - self._began >= timedelta(seconds=over_s)

    def _measured(self, rule: Measuring, state: EndpointState, now: datetime) -> Signal | None:
        name = state.spec.name
        if isinstance(rule, Absence) and not self._has_looked(rule.over_s, now):
            return None
        judgement = judged(rule, self._measures.of(name, now))
        if judgement is None:
            return None
        return Signal(
            environment=self._environment,
            endpoint=name,
            rule=rule.name,
            subject=rule.subject if isinstance(rule, BurnRate) else "",
            at=now,
            is_firing=judgement.holds,
            severity=judgement.severity,
            summary=judgement.summary,
            numbers=judgement.numbers,
        )
