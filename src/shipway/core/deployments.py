"""The changes of an endpoint's state, each a function from one state to the next.

               accepted                activated
   (none) ───────────────► starting ───────────────► live
                              │  ▲                     │
                       failed │  │ accepted            │ accepted, rolled back
                              ▼  │                     ▼
                            failed ◄──── failed ──── starting

Every next state has the next generation, so that a decision made on an older one is refused.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from shipway.core.endpoints import EndpointSpec, EndpointState, Phase, Placement, Scaling
from shipway.core.errors import NothingToRollBack
from shipway.core.versions import VersionRef

_replace = msgspec.structs.replace


def accepted(
    before: EndpointState | None, spec: EndpointSpec, version: VersionRef, *, inline: bool
) -> EndpointState:
    """The state once a spec was accepted; `before` itself when it changes nothing."""
    if before is None:
        return EndpointState(
            spec=spec,
            generation=1,
            phase=Phase.STARTING,
            target=version,
            inline=(version,) if inline else (),
        )
    if before.active == version:
        after = _replace(before, spec=spec, phase=Phase.LIVE, target=None, message="")
    elif before.target == version and before.phase is Phase.STARTING:
        after = _replace(before, spec=spec, inline=_with(before.inline, version, inline_now=inline))
    else:
        after = _aimed(_replace(before, spec=spec), version, inline=inline)
    return before if after == before else _next(after)


def _aimed(state: EndpointState, version: VersionRef, *, inline: bool) -> EndpointState:
    return _replace(
        state,
        phase=Phase.STARTING,
        target=version,
        message="",
        inline=_with(state.inline, version, inline_now=inline),
    )


def activated(state: EndpointState, now: datetime) -> EndpointState:
    """The state once the target serves; what it replaced is kept warm."""
    after = _replace(state, active=state.target, target=None, phase=Phase.LIVE, message="")
    if state.active is not None:
        after = _replace(after, previous=state.active, previous_until=_warm_until(state, now))
    return _next(after)


def failed(state: EndpointState, message: str) -> EndpointState:
    """The state once the target was given up; it stays named, and the active version serves on."""
    return _next(_replace(state, phase=Phase.FAILED, message=message))


def rolled_back(state: EndpointState, now: datetime, *, is_warm: bool) -> EndpointState:
    """The state once the last change is undone.

    A change under way is given up. Otherwise the previous version serves at once when `is_warm`,
    and is deployed again when it is not.

    Raises:
        NothingToRollBack: no other version served before.
    """
    if state.phase is Phase.STARTING and state.active is not None:
        return _next(_serving(state, state.active))
    if state.previous is None or state.active is None:
        raise NothingToRollBack(
            f"Endpoint `{state.spec.name}` has no earlier version to return to.",
            next_step="Deploy the version that you want with `shipway deploy`.",
        )
    if not is_warm:
        inline = state.previous in state.inline
        spec = _replace(state.spec, model=str(state.previous))
        return _next(_aimed(_replace(state, spec=spec), state.previous, inline=inline))
    swapped = _replace(
        _serving(state, state.previous),
        previous=state.active,
        previous_until=_warm_until(state, now),
    )
    return _next(swapped)


def _serving(state: EndpointState, version: VersionRef) -> EndpointState:
    spec = _replace(state.spec, model=str(version))
    return _replace(state, spec=spec, active=version, target=None, phase=Phase.LIVE, message="")


def _warm_until(state: EndpointState, now: datetime) -> datetime:
    return now + timedelta(seconds=state.spec.warm_s)


def _next(state: EndpointState) -> EndpointState:
    named = (state.active, state.target, state.previous)
    return _replace(
        state,
        generation=state.generation + 1,
        inline=tuple(version for version in state.inline if version in named),
    )


def _with(
    inline: tuple[VersionRef, ...], version: VersionRef, *, inline_now: bool
) -> tuple[VersionRef, ...]:
    others = tuple(other for other in inline if other != version)
    return (*others, version) if inline_now else others


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
        return (f"start {after.target}{replaced}",) if is_new else ()
    if before.target is not None and after.target is None:
        return (f"give up {before.target}; {after.active} serves on",)
    return ()


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
    if key.startswith(("replicas", "scaling")) and is_inline:
        return f" ({serves} runs in the gateways, which need none)"
    return ""


def _flat(spec: EndpointSpec) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    limits, scaling = fields.pop("limits"), fields.pop("scaling") or {}
    flat = {
        **fields,
        **{f"limits.{key}": value for key, value in limits.items()},
        **{f"scaling.{key}": scaling.get(key) for key in Scaling.__struct_fields__},
    }
    return {key: "none" if value is None else value for key, value in flat.items()}
