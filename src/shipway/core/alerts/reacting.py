"""Which actions an alert that fires calls for, and whether they may be done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from shipway.core.alerts.lifecycle import Alert, Moment
from shipway.core.alerts.plan import AlertPlan, Deed, Mode, Reaction
from shipway.core.endpoints import EndpointState, Phase

FRESH_S = 300.0
"""Nothing is done by evidence that is older: what was true then need not be now."""


def reactions_to(alert: Alert, plan: AlertPlan | None) -> tuple[Reaction, ...]:
    """What was declared for alerts such as this one, each deed once, in the declared order."""
    declared = () if plan is None else plan.actions
    names = (alert.rule, alert.rule.partition(":")[0], alert.severity.value)
    found: dict[Deed, Reaction] = {}
    for one in declared:
        if one.when in names:
            found.setdefault(one.do, one)
    return tuple(found.values())


def untimely(deed: Deed, alert: Alert, state: EndpointState | None) -> str:
    """Why an endpoint as it is now is not what the alert is about; empty when it is.

    Measures are of all versions together, and of a while ago: what they say of a version that is on its way out, or has gone, must not
    undo what replaced it.
    """
    if deed not in (Deed.ROLLBACK, Deed.PAUSE) or state is None:
        return ""
    if state.phase is Phase.STARTING:
        return f"{state.target} is on its way in already"
    if alert.version != str(state.active or ""):
        return f"the alert is about {alert.version or 'no version'}, and {state.active} serves now"
    rollout = state.releasing
    if rollout is None and deed is Deed.PAUSE:
        return "no rollout is under way"
    if rollout is not None and alert.raised_at < rollout.started_at:
        return f"it was raised before {state.target} came"
    if rollout is None and state.previous is not None and state.previous == state.refused:
        return f"{state.previous} was given up itself"
    return ""


def done_at(begun: Iterable[Moment], failed: Iterable[Moment]) -> list[datetime]:
    """When something was done, or may have been: what was begun, without what is known to have failed.

    An end has the time of its beginning; what control lost ended otherwise, and counts.
    """
    in_vain = {(one.alert, one.at) for one in failed}
    return [one.at for one in begun if (one.alert, one.at) not in in_vain]


def refusal_of(reaction: Reaction, alert: Alert, done: Sequence[datetime], now: datetime) -> str:
    """Why an action is not done now; empty when it is. `done` are the times of its like."""
    if reaction.mode is Mode.SUGGEST:
        return "it is only suggested (`mode: suggest`)"
    if now - alert.heard_at > timedelta(seconds=FRESH_S):
        return f"its evidence is older than {FRESH_S:g} s"
    # What is noted for a time to come was done while a clock ran ahead.
    lately = [at for at in done if abs(now - at) < timedelta(seconds=reaction.per_s)]
    if len(lately) >= reaction.most:
        return f"it was done {len(lately)} times in the last {reaction.per_s:g} s already"
    return ""
