"""How each endpoint's alerts are dealt with, by its spec and the channels that there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shipway.core.alerts.channels import Channel
from shipway.core.alerts.deciding import Handling
from shipway.core.alerts.defaults import SERVER_RULES, runbook_of
from shipway.core.alerts.lifecycle import Key
from shipway.core.alerts.plan import AlertPlan, Notify, changed, is_off, override_of, rules_of
from shipway.core.alerts.rules import Reported, Rule, State
from shipway.core.endpoints import EndpointState

STATE_STALE_S = 600.0
MEASURED_STALE_S = 3600.0
REPORTED_STALE_S = 8 * 24 * 3600.0
"""Monitors run as seldom as once a week."""


class Handlings:
    """The handling of every alert of one environment, as declared at one moment."""

    def __init__(self, states: Iterable[EndpointState], channels: Iterable[Channel]) -> None:
        self._states = {state.spec.name: state for state in states}
        self._channels = {channel.name: channel for channel in channels}
        self._rules: dict[str, Mapping[str, Rule]] = {}

    def of(self, key: Key) -> Handling | None:
        """How the alerts of a key are dealt with; None when its rule is off or its endpoint is gone."""
        state = self._states.get(key.endpoint)
        if key.endpoint and state is None:
            return None
        plan = None if state is None else state.spec.alerts
        if is_off(plan, key.rule):
            return None
        override = override_of(plan, key.rule)
        rule = self._rule(key)
        rule = None if rule is None else changed(rule, override)
        active = None if state is None else state.active
        return Handling(
            for_s=0.0 if rule is None else rule.for_s,
            hold_s=0.0 if rule is None else rule.hold_s,
            stale_s=_stale_s(rule),
            severity=None if override is None else override.severity,
            notify=self.told_of(key.endpoint),
            version=str(active or ""),
            runbook=runbook_of(key.rule, "" if rule is None else rule.runbook),
        )

    def plan_of(self, endpoint: str) -> AlertPlan | None:
        """What an endpoint declares of its alerts."""
        state = self._states.get(endpoint)
        return None if state is None else state.spec.alerts

    def told_of(self, endpoint: str) -> tuple[Notify, ...]:
        """Who is told of an endpoint's alerts: those it names that may be, else the default channels."""
        plan = self.plan_of(endpoint)
        if plan is not None and plan.notify is not None:
            return tuple(one for one in plan.notify if self.channel_for(one.channel, endpoint))
        return tuple(
            Notify(channel=one.name, at_least=one.at_least, after_s=one.after_s)
            for one in self._channels.values()
            if one.is_default and one.serves(endpoint)
        )

    def channel_for(self, name: str, endpoint: str) -> Channel | None:
        """A channel that may be told of an endpoint; None when there is none of that name."""
        channel = self._channels.get(name)
        return channel if channel is not None and channel.serves(endpoint) else None

    def _rule(self, key: Key) -> Rule | None:
        if key.endpoint not in self._rules:
            rules = rules_of(self.plan_of(key.endpoint)) if key.endpoint else SERVER_RULES
            self._rules[key.endpoint] = {rule.name: rule for rule in rules}
        known = self._rules[key.endpoint]
        return known.get(key.rule) or known.get(key.rule.partition(":")[0])


def _stale_s(rule: Rule | None) -> float:
    if rule is None or isinstance(rule, Reported):
        return REPORTED_STALE_S
    return STATE_STALE_S if isinstance(rule, State) else MEASURED_STALE_S
