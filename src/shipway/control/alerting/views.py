"""What people and clients are shown of alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from shipway.control.alerting.handling import Handlings
from shipway.core.alerts.defaults import runbook_of
from shipway.core.alerts.lifecycle import Alert, Moment
from shipway.core.alerts.messages import linked
from shipway.core.alerts.plan import Notify, Reaction, rules_of
from shipway.core.alerts.rules import Rule
from shipway.core.alerts.sending import Notification, Sending
from shipway.core.alerts.silences import Silence
from shipway.core.endpoints import EndpointState
from shipway.core.errors import EndpointNotFound
from shipway.core.signals import Severity


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """A message to a channel, and whether it arrived. `fault` is what the last attempt met."""

    id: str
    channel: str
    state: Sending
    attempts: int
    created_at: datetime
    ended_at: datetime | None
    fault: str

    @classmethod
    def of(cls, one: Notification) -> Telling:
        """The view of a message."""
        return cls(**{name: getattr(one, name) for name in cls.__struct_fields__})


class AlertStory(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an alert. `actions` are those that were declared for it."""

    alert: Alert
    moments: tuple[Moment, ...]
    messages: tuple[Telling, ...]
    silence: Silence | None
    command: str
    runbook: str
    actions: tuple[Reaction, ...]


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of an endpoint; `settings` are those of its kind."""

    name: str
    kind: str
    severity: Severity
    for_s: float
    hold_s: float
    runbook: str
    settings: dict[str, Any]


class RulesView(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of an endpoint, those that are off, who is told, and what is done.

    `unknown` are channels that its spec names and that are not there for it.
    """

    endpoint: str
    rules: tuple[RuleView, ...]
    off: tuple[str, ...]
    notify: tuple[Notify, ...]
    unknown: tuple[str, ...]
    actions: tuple[Reaction, ...]


def rules_view(
    endpoint: str, state: EndpointState | None, handlings: Handlings, docs_url: str
) -> RulesView:
    """The view of an endpoint's rules.

    Raises:
        EndpointNotFound: there is no such endpoint.
    """
    if state is None:
        raise EndpointNotFound.named(endpoint, (), next_step="`shipway get` lists the endpoints.")
    plan = state.spec.alerts
    named = () if plan is None or plan.notify is None else plan.notify
    asked = () if plan is None else plan.actions
    wanted = {*(one.channel for one in named), *(one.channel for one in asked if one.channel)}
    return RulesView(
        endpoint=endpoint,
        rules=tuple(_rule_view(rule, docs_url) for rule in rules_of(plan)),
        off=() if plan is None else tuple(n for n, one in plan.rules.items() if one is None),
        notify=handlings.told_of(endpoint),
        unknown=tuple(sorted(n for n in wanted if handlings.channel_for(n, endpoint) is None)),
        actions=asked,
    )


def _rule_view(rule: Rule, docs_url: str) -> RuleView:
    fields: dict[str, Any] = msgspec.to_builtins(rule)
    shared = ("name", "kind", "severity", "for_s", "hold_s", "runbook")
    return RuleView(
        name=rule.name,
        kind=fields["kind"],
        severity=rule.severity,
        for_s=rule.for_s,
        hold_s=rule.hold_s,
        runbook=linked(runbook_of(rule.name, rule.runbook), docs_url),
        settings={name: value for name, value in fields.items() if name not in shared},
    )
