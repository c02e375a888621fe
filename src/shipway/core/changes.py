"""What a change of an endpoint does, in words, before it is made."""

from __future__ import annotations

from typing import Any

import msgspec

from shipway.core.endpoints import EndpointSpec, EndpointState, Phase, Placement, Scaling
from shipway.core.positions import Position, positions
from shipway.core.rollouts import Rollout


def described(before: EndpointState | None, after: EndpointState | None) -> tuple[str, ...]:
    """What a change does, a line each, for people; empty when nothing changes."""
    if after is None:
        return () if before is None else (f"delete endpoint `{before.spec.name}`",)
    if before is None:
        return (
            f"create endpoint `{after.spec.name}` in `{after.spec.environment}`",
            f"start {after.target}",
        )
    return (*_moves(before, after), *_settings(before, after))


def _moves(before: EndpointState, after: EndpointState) -> tuple[str, ...]:
    if after.active != before.active:
        return (f"switch from {before.active} to {after.active}",)
    if after.target is not None and after.phase is Phase.STARTING:
        is_new = before.target != after.target or before.phase is not Phase.STARTING
        replaced = f" to replace {after.active}" if after.active else ""
        begun = (f"start {after.target}{replaced}", *_plan(after)) if is_new else ()
        ended = before.under_way
        return (f"give up the rollout of {ended.candidate}", *begun) if ended and is_new else begun
    if before.target is not None and after.target is None:
        return (f"give up {before.target}; {after.active} serves on",)
    return ()


def _plan(after: EndpointState) -> tuple[str, ...]:
    """How the target will be brought in, a line for each step, and what would undo it."""
    rollout = after.under_way
    if rollout is None:
        return ()
    steps = [f"then {position.label}{_hold(position)}" for position in positions(rollout.plan)]
    return (*steps, *_criteria(rollout))


def _hold(position: Position) -> str:
    parts = [f"{position.hold_s:g} s"] if position.hold_s else []
    parts += [f"{position.hold_requests} requests"] if position.hold_requests else []
    if position.test is not None:
        parts = [f"until decided, at most {position.test.max_s:g} s"]
    held = f", {' and '.join(parts)}" if parts else ""
    return f"{held}, until a person lets it go on" if position.pause else held


def _criteria(rollout: Rollout) -> tuple[str, ...]:
    guards = rollout.plan.guards
    named = [
        f"{name} ({_bounds(value)})"
        for name, value in msgspec.structs.asdict(guards).items()
        if isinstance(value, msgspec.Struct)
    ]
    named += [f"metric {guard.metric}" for guard in guards.metrics]
    watched = f"rolled back by: {', '.join(named)}" if named else "no guard is on"
    goal = rollout.plan.success
    return (watched, f"success: {goal}") if goal else (watched,)


def _bounds(guard: msgspec.Struct) -> str:
    values = msgspec.structs.asdict(guard)
    return ", ".join(f"{key} {value:g}" for key, value in values.items() if value is not None)


def _settings(before: EndpointState, after: EndpointState) -> tuple[str, ...]:
    old, new = _flat(before.spec), _flat(after.spec)
    return tuple(
        f"{key}: {old[key]} -> {new[key]}{_not_yet(key, after)}"
        for key in new
        if old[key] != new[key]
    )


def _not_yet(key: str, state: EndpointState) -> str:
    """A remark where a setting does nothing to the version that serves: it is never moved."""
    serves = state.target or state.active
    is_inline = serves in state.inline
    moved_by = Placement.PROCESS if is_inline else Placement.INLINE
    if key == "placement" and state.spec.placement is moved_by:
        return f" (from the next version on; {serves} stays where it is)"
    if key.startswith(("replicas", "scaling", "secrets")) and is_inline:
        return f" ({serves} runs in the gateways, which need none)"
    return ""


def _flat(spec: EndpointSpec) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    fields["rollout"] = _named(spec)
    limits, sandbox = fields.pop("limits"), fields.pop("sandbox")
    scaling = fields.pop("scaling") or {}
    flat = {
        **fields,
        **{f"limits.{key}": value for key, value in limits.items()},
        **{f"sandbox.{key}": value for key, value in sandbox.items()},
        **{f"scaling.{key}": scaling.get(key) for key in Scaling.__struct_fields__},
    }
    return {key: "none" if value is None else value for key, value in flat.items()}


def _named(spec: EndpointSpec) -> str | None:
    """A plan in one line."""
    if spec.rollout is None:
        return None
    return ", ".join(position.label for position in positions(spec.rollout)) or "at once"
