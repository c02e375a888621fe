"""Rules on what control sees of itself, as signals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from shipway.control.views import Seen, endpoint_view
from shipway.core.alerts.rules import Condition, State
from shipway.core.endpoints import EndpointState, Phase
from shipway.core.health import Level, rollout_diagnosis, rollout_facts
from shipway.core.signals import Signal


def state_signal(
    rule: State,
    environment: str,
    state: EndpointState | None,
    states: Sequence[EndpointState],
    seen: Seen,
    now: datetime,
) -> Signal | None:
    """What a rule says of an endpoint, or of the server for None; None when it cannot be told.

    Nothing can be before every gateway had time to report since control started.
    """
    if not seen.observed.settled:
        return None
    found = _found(rule.condition, state, states, seen, now)
    if found is None:
        return None
    summary, next_step = found
    return Signal(
        environment=environment,
        endpoint="" if state is None else state.spec.name,
        rule=rule.name,
        at=now,
        is_firing=bool(summary),
        severity=rule.severity,
        summary=summary,
        next_step=next_step,
    )


def _found(
    condition: Condition,
    state: EndpointState | None,
    states: Sequence[EndpointState],
    seen: Seen,
    now: datetime,
) -> tuple[str, str] | None:
    """What is wrong and what to do; empty when nothing is, None when that cannot be told."""
    match condition:
        case Condition.NO_GATEWAY:
            is_down = bool(states) and not seen.gateways
            return ("No gateway has reported to control lately.", "") if is_down else ("", "")
        case Condition.CANNOT_ANSWER:
            return None if state is None else _silence_of(state, seen)
        case Condition.ROLLOUT_STUCK:
            return None if state is None else _stuck(state, now)
        case _:
            assert_never(condition)


def _silence_of(state: EndpointState, seen: Seen) -> tuple[str, str] | None:
    if not seen.gateways or (state.active is None and state.phase is not Phase.FAILED):
        return None  # without gateways that is what is told; a first version may take its time
    view = endpoint_view(state, seen)
    active = [one for one in view.variants if one.version == view.active]
    if active and all(one.ready or one.asleep for one in active):
        return "", ""
    why = f": {view.message.rstrip('.')}." if view.message else "."
    return f"No replica of {view.active or view.target} can answer{why}", ""


def _stuck(state: EndpointState, now: datetime) -> tuple[str, str]:
    rollout = state.under_way
    if rollout is None:
        return "", ""
    diagnosis = rollout_diagnosis(rollout_facts(rollout), now=now)
    is_stuck = diagnosis.level is not Level.OK
    return (diagnosis.message, diagnosis.next_step) if is_stuck else ("", "")
