"""What people declare under `alerts` of an endpoint: other rules, objectives, who is told, what is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated

import msgspec

from shipway.core.alerts.defaults import DEFAULT_RULES, SLO_BURN
from shipway.core.alerts.rules import (
    Absence,
    Anomaly,
    BurnRate,
    Change,
    Rule,
    Span,
    Threshold,
    Wait,
)
from shipway.core.errors import InvalidRequest, InvalidSpec
from shipway.core.measures import MEASURES, OF_SERVER, measure_of
from shipway.core.monitors import MonitorKind
from shipway.core.signals import Severity


class SloMeasure(StrEnum):
    """What an objective is about."""

    ERROR_RATE = "error_rate"
    """Requests that failed."""

    LATENCY = "latency"
    """Answers that took longer than `threshold_ms`."""


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised of the endpoint. Its error budget is watched by burn rates."""

    objective: Annotated[float, msgspec.Meta(gt=0, lt=100)]
    """So many of a hundred requests are good: 99.9."""

    measure: SloMeasure = SloMeasure.ERROR_RATE
    """Which requests are bad: `error_rate` or `latency`."""

    threshold_ms: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """With `latency`: slower answers are bad."""


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a default rule, or the alerts of a monitor, should be instead."""

    severity: Severity | None = None
    """How soon somebody should look."""

    value: float | None = None
    """The threshold; of an anomaly its `z`."""

    over_s: Span | None = None
    """The measure is taken over so long."""

    for_s: Wait | None = None
    """An alert fires once the rule has held for so long."""

    hold_s: Wait | None = None
    """It is resolved once the rule has not held for so long."""


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel that is told."""

    channel: str
    """Its name, as `shipway alerts channels list` shows it."""

    at_least: Severity = Severity.INFO
    """Only alerts that are at least so severe."""

    after_s: Wait = 0.0
    """Only once nobody has acknowledged the alert for so long: an escalation."""


class Deed(StrEnum):
    """What can be done about an alert."""

    ROLLBACK = "rollback"
    """Bring back the version that served before; of a rollout, give it up."""

    PAUSE = "pause"
    """Keep the rollout under way at its step."""

    RETRAIN = "retrain"
    """Ask for a new model: a message to a channel, with the window and the reason."""

    FALLBACK = "fallback"
    """Let the endpoint's fallback answer everything, until the spec says otherwise."""


class Mode(StrEnum):
    """Whether something is done, or only suggested."""

    SUGGEST = "suggest"
    DO = "do"


class Reaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done when an alert fires."""

    when: str
    """A rule's name, the kind of a monitor (`drift`), or a severity."""

    do: Deed
    """What: `rollback`, `pause`, `retrain` or `fallback`."""

    mode: Mode = Mode.SUGGEST
    """`suggest` names it in the message, for a person to do; `do` does it."""

    channel: str | None = None
    """With `retrain`: who is asked."""

    most: Annotated[int, msgspec.Meta(ge=1)] = 1
    """At most so often …"""

    per_s: Annotated[float, msgspec.Meta(ge=60, le=30 * 24 * 3600)] = 3600.0
    """… in so long, whichever alerts fire."""


Extra = Threshold | Change | Anomaly | Absence | BurnRate
"""The kinds of rule that people may add."""


class AlertPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The alerts of an endpoint. Left out, it has the default rules, told to the default channels."""

    rules: dict[str, Override | None] = {}
    """Changes of default rules, and of monitors' alerts, by name; `null` switches one off."""

    extra: tuple[Extra, ...] = ()
    """Further rules, below."""

    slos: tuple[Slo, ...] = ()
    """What is promised; the rule `slo-burn` watches it."""

    notify: tuple[Notify, ...] | None = None
    """Who is told, in this order; the default channels when left out, nobody when empty."""

    actions: tuple[Reaction, ...] = ()
    """What is done when an alert fires."""


def rules_of(plan: AlertPlan | None) -> tuple[Rule, ...]:
    """The rules of an endpoint with that plan, in the order of names."""
    plan = plan or AlertPlan()
    kept = [
        changed(rule, plan.rules.get(rule.name))
        for rule in (*DEFAULT_RULES, *_burn_rates(plan))
        if not is_off(plan, rule.name)
    ]
    return tuple(sorted((*kept, *plan.extra), key=lambda rule: rule.name))


def is_off(plan: AlertPlan | None, rule: str) -> bool:
    """Whether alerts of a rule are switched off, by its name or the kind before its colon."""
    if plan is None:
        return False
    names = (rule, rule.partition(":")[0])
    return any(name in plan.rules and plan.rules[name] is None for name in names)


def override_of(plan: AlertPlan | None, rule: str) -> Override | None:
    """What was declared of a rule, by its name or else the kind before its colon."""
    if plan is None:
        return None
    return plan.rules.get(rule) or plan.rules.get(rule.partition(":")[0])


def _burn_rates(plan: AlertPlan) -> tuple[BurnRate, ...]:
    return tuple(
        BurnRate(
            name=SLO_BURN,
            measure=_bad_share(slo),
            objective_pct=slo.objective,
            subject=slo.measure.value,
        )
        for slo in plan.slos
    )


def _bad_share(slo: Slo) -> str:
    """The measure of the share of bad requests: `error_rate`, or `slower_than_ms:250`."""
    if slo.measure is SloMeasure.LATENCY:
        return f"slower_than_ms:{slo.threshold_ms:g}"
    return slo.measure.value


def changed(rule: Rule, override: Override | None) -> Rule:
    """The rule with what an override says in place of its own."""
    if override is None:
        return rule
    known = set(rule.__struct_fields__)
    fields = {k: v for k, v in msgspec.structs.asdict(override).items() if v is not None}
    if "value" in fields and "value" not in known:
        fields["z"] = fields.pop("value")
    return msgspec.structs.replace(rule, **{k: v for k, v in fields.items() if k in known})


def require_sensible(plan: AlertPlan, *, source: str) -> None:
    """Refuses what each key allows and all of them together do not.

    Raises:
        InvalidSpec: a name is used twice, or names nothing; an override or an objective that changes
            nothing, an action without its channel.
    """
    for problem, next_step in _problems(plan):
        raise InvalidSpec(f"{source} has {problem}.", next_step=next_step, path="alerts")


def _problems(plan: AlertPlan) -> list[tuple[str, str]]:
    return [
        *_name_problems(plan),
        *_rule_problems(plan),
        *_slo_problems(plan),
        *_action_problems(plan),
    ]


def _name_problems(plan: AlertPlan) -> Iterator[tuple[str, str]]:
    """Names that nothing has: what was declared of them would never happen, and nobody would notice."""
    rules = {*(rule.name for rule in (*DEFAULT_RULES, *plan.extra)), SLO_BURN}
    causes = rules | {severity.value for severity in Severity}
    for name in plan.rules:
        if not _is_rule(name, rules):
            yield f"`alerts.rules.{name}`, and no alert rule of that name", _nearest(name, rules)
    for one in plan.actions:
        if not _is_rule(one.when, causes):
            problem = f"an action `when: {one.when}`, which is no alert rule and no severity"
            yield problem, _nearest(one.when, causes)
    for rule in plan.extra:
        if isinstance(rule, Absence):
            continue
        try:
            measure_of(rule.measure, "any")
        except InvalidRequest:
            problem = f"the alert rule `{rule.name}` of the unknown measure `{rule.measure}`"
            yield problem, _nearest(rule.measure, MEASURES.keys() - OF_SERVER)


def _is_rule(name: str, known: Iterable[str]) -> bool:
    """Whether it is one of the names, or the rule of a monitor that has a name of its own: `drift:hourly`."""
    kind, colon, _ = name.partition(":")
    return name in known or (bool(colon) and kind in set(MonitorKind))


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    hint = f"Did you mean `{near[0]}`? " if near else ""
    return f"{hint}The names are in docs/reference/alerts.md and docs/reference/metrics.md."


def _rule_problems(plan: AlertPlan) -> list[tuple[str, str]]:
    known = {rule.name: rule for rule in DEFAULT_RULES}
    taken = {*known, SLO_BURN}
    found = []
    for rule in plan.extra:
        if rule.name in taken:
            found.append((f"two alert rules `{rule.name}`", "Give the added one another name."))
        taken.add(rule.name)
    for name, override in plan.rules.items():
        if override is None:
            continue
        is_number = override.value is not None or override.over_s is not None
        if is_number and not hasattr(known.get(name), "over_s"):
            found.append(
                (
                    f"a `value` or `over_s` for the alert rule `{name}`, which has none",
                    "Leave them out, or add a rule of your own under `alerts.extra`.",
                )
            )
    return found


def _slo_problems(plan: AlertPlan) -> list[tuple[str, str]]:
    found = []
    for slo in plan.slos:
        if (slo.measure is SloMeasure.LATENCY) != (slo.threshold_ms is not None):
            said = "an objective of latency without" if slo.threshold_ms is None else "another with"
            found.append((f"{said} `threshold_ms`", "Give it with `measure: latency`, only there."))
    if len({slo.measure for slo in plan.slos}) != len(plan.slos):
        found.append(("two objectives of the same measure", "Keep one of them."))
    return found


def _action_problems(plan: AlertPlan) -> list[tuple[str, str]]:
    return [
        (
            f"the action `{one.do.value}` {'without' if one.channel is None else 'with'} a `channel`",
            "Give a channel with `do: retrain`, only there.",
        )
        for one in plan.actions
        if (one.do is Deed.RETRAIN) != (one.channel is not None)
    ]
