"""The changes of an endpoint's state, each a function from one state to the next.

               accepted                activated
   (none) ───────────────► starting ───────────────────────────► live
                              │  ▲ │                            ▲   │
                       failed │  │ │ released                   │   │ accepted,
                              ▼  │ ▼            stepped         │   │ rolled back
                            failed releasing ───────────────────┘   ▼
                                     (promoted or given up)      starting

Every next state has the next generation, so that a decision made on an older one is refused.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import (
    ConflictError,
    NothingToRollBack,
    RolloutNotPossible,
    RolloutUnderWay,
)
from shipway.core.positions import positions
from shipway.core.rollouts import Decision, Event, Rollout, RolloutPhase, begun, moved
from shipway.core.strategies import Conflict
from shipway.core.versions import VersionRef, parse_version

_replace = msgspec.structs.replace


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants a change, and when. `id` is that of the rollout, if it makes one.

    `supersedes`: it takes the place of a rollout that is under way, whatever the plan says.
    """

    id: str
    actor: str
    now: datetime
    supersedes: bool = False


def accepted(
    before: EndpointState | None,
    spec: EndpointSpec,
    version: VersionRef,
    *,
    inline: bool,
    order: Order,
) -> EndpointState:
    """The state once a spec was accepted; `before` itself when it changes nothing.

    Raises:
        RolloutUnderWay: another version is being rolled out, and the spec does not supersede it.
    """
    if before is None:
        return EndpointState(
            spec=spec,
            generation=1,
            phase=Phase.STARTING,
            target=version,
            inline=(version,) if inline else (),
        )
    if before.target == version and before.phase in (Phase.STARTING, Phase.RELEASING):
        # The plan of a rollout under way is the one that it began with.
        after = _replace(before, spec=spec, inline=_with(before.inline, version, inline_now=inline))
    elif _is_refused(before, spec, version):
        return before
    elif before.active == version:
        _require_free(before, spec, order)
        rollout = _ended(before, Event.SUPERSEDE, f"{version} was deployed.", order.now)
        after = _replace(
            before, spec=spec, phase=Phase.LIVE, target=None, message="", rollout=rollout
        )
    else:
        _require_free(before, spec, order)
        after = _begun(_aimed(_replace(before, spec=spec), version, inline=inline), order)
    return before if after == before else _next(after)


def _is_refused(before: EndpointState, spec: EndpointSpec, version: VersionRef) -> bool:
    """Whether the same spec is applied again whose version was given up since."""
    is_settled = before.phase is Phase.LIVE
    return is_settled and before.refused == version and spec == before.spec


def _require_free(before: EndpointState, spec: EndpointSpec, order: Order) -> None:
    rollout = before.under_way
    if order.supersedes:
        return
    conflict = Conflict.REFUSE if spec.rollout is None else spec.rollout.on_conflict
    if rollout is not None and conflict is Conflict.REFUSE:
        raise RolloutUnderWay(
            f"Endpoint `{before.spec.name}` is rolling out {rollout.candidate}"
            f" ({rollout.phase.value}, {rollout.weight_pct} %).",
            next_step=f"Wait for it, end it with `shipway rollout abort {before.spec.name}`,"
            " or deploy with `--supersede`.",
            rollout=rollout.id,
        )


def _ended(state: EndpointState, event: Event, message: str, now: datetime) -> Rollout | None:
    """The state's last rollout, ended by that event if it was under way."""
    rollout = state.under_way
    if rollout is None:
        return state.rollout
    return moved(rollout, Decision(event=event, message=message), now)


def _begun(state: EndpointState, order: Order) -> EndpointState:
    """With the rollout that brings the target up, where the spec has a plan and something serves."""
    plan, target = state.spec.rollout, state.target
    if plan is None or target is None or state.active is None or not positions(plan):
        message = f"{target} was deployed."
        return _replace(state, rollout=_ended(state, Event.SUPERSEDE, message, order.now))
    rollout = begun(
        plan,
        state.active,
        target,
        id=order.id,
        place=(state.spec.environment, state.spec.name),
        actor=order.actor,
        now=order.now,
    )
    return _replace(state, rollout=rollout)


def _aimed(state: EndpointState, version: VersionRef, *, inline: bool) -> EndpointState:
    return _replace(
        state,
        phase=Phase.STARTING,
        target=version,
        message="",
        refused=None,
        inline=_with(state.inline, version, inline_now=inline),
    )


def superseded(before: EndpointState | None, after: EndpointState, now: datetime) -> Rollout | None:
    """The rollout of `before` as it ended, where `after` has another one in its place."""
    rollout = None if before is None else before.under_way
    if rollout is None or (after.rollout is not None and after.rollout.id == rollout.id):
        return None
    message = f"{after.target} was deployed."
    return moved(rollout, Decision(event=Event.SUPERSEDE, message=message), now)


def activated(state: EndpointState, now: datetime) -> EndpointState:
    """The state once the target serves; what it replaced is kept warm."""
    after = _replace(state, active=state.target, target=None, phase=Phase.LIVE, message="")
    if state.active is not None:
        after = _replace(after, previous=state.active, previous_until=_warm_until(state, now))
    return _next(after)


def released(state: EndpointState, now: datetime) -> EndpointState:
    """The state once the candidate of a rollout is ready, and the rollout may begin."""
    rollout = _moving(state, state.rollout)
    decision = Decision(event=Event.READY, message=f"{rollout.candidate} is ready.")
    return _next(_replace(state, phase=Phase.RELEASING, rollout=moved(rollout, decision, now)))


def stepped(state: EndpointState, decision: Decision, now: datetime) -> EndpointState:
    """The state once that has happened to its rollout.

    Raises:
        RolloutNotPossible: it cannot happen in the rollout's phase, or there is no rollout.
    """
    rollout = moved(_moving(state, state.rollout), decision, now)
    state = _replace(state, rollout=rollout)
    match rollout.phase:
        case RolloutPhase.PROMOTED:
            return activated(state, now)
        case RolloutPhase.PREPARING | RolloutPhase.RUNNING | RolloutPhase.PAUSED:
            return _next(state)
        case _:
            return _given_up(state, decision.message)


def _moving(state: EndpointState, rollout: Rollout | None) -> Rollout:
    if rollout is None:
        raise RolloutNotPossible(
            f"Endpoint `{state.spec.name}` has no rollout.",
            next_step="Begin one with `shipway deploy MODEL:VERSION --strategy canary`.",
        )
    return rollout


def _given_up(state: EndpointState, message: str) -> EndpointState:
    assert state.active is not None
    refused = state.target
    after = _replace(_serving(state, state.active), refused=refused)
    return _next(_replace(after, message=f"{refused} was given up: {message}"))


def failed(state: EndpointState, message: str, now: datetime) -> EndpointState:
    """The state once the target was given up; it stays named, and the active version serves on."""
    rollout = _ended(state, Event.START_FAILED, message, now)
    return _next(
        _replace(state, phase=Phase.FAILED, message=message, rollout=rollout, refused=state.target)
    )


def rolled_back(state: EndpointState, now: datetime, *, is_warm: bool) -> EndpointState:
    """The state once the last change is undone.

    A change under way is given up, its rollout too. Otherwise the previous version serves at once when
    `is_warm`, and is deployed again when it is not.

    Raises:
        NothingToRollBack: no other version served before.
    """
    if state.phase is Phase.RELEASING:
        return stepped(state, Decision(event=Event.ABORT, message="Rolled back by hand."), now)
    if state.phase is Phase.STARTING and state.active is not None:
        rollout = _ended(state, Event.ABORT, "Rolled back by hand.", now)
        after = _replace(_serving(state, state.active), refused=state.target, rollout=rollout)
        return _next(after)
    if state.previous is None or state.active is None:
        raise NothingToRollBack(
            f"Endpoint `{state.spec.name}` has no earlier version to return to.",
            next_step="Deploy the version that you want with `shipway deploy`.",
        )
    if not is_warm:
        inline = state.previous in state.inline
        spec = _pinned(state.spec, state.previous)
        aimed = _aimed(_replace(state, spec=spec), state.previous, inline=inline)
        return _next(_replace(aimed, refused=state.active))
    swapped = _replace(
        _serving(state, state.previous),
        previous=state.active,
        previous_until=_warm_until(state, now),
        refused=state.active,
    )
    return _next(swapped)


def _serving(state: EndpointState, version: VersionRef) -> EndpointState:
    spec = _pinned(state.spec, version)
    return _replace(state, spec=spec, active=version, target=None, phase=Phase.LIVE, message="")


def _pinned(spec: EndpointSpec, version: VersionRef) -> EndpointSpec:
    """The spec naming that version; one that follows an alias goes on following it."""
    is_following = parse_version(spec.model).alias is not None
    return spec if is_following else _replace(spec, model=str(version))


def diverted(state: EndpointState) -> EndpointState:
    """The state once its fallback answers everything; itself when it does already.

    Raises:
        ConflictError: it has no fallback.
    """
    fallback = state.spec.fallback
    if fallback is None:
        raise ConflictError(
            f"Endpoint `{state.spec.name}` has no fallback.",
            next_step="Declare one under `fallback` of its spec.",
        )
    if fallback.always:
        return state
    spec = _replace(state.spec, fallback=_replace(fallback, always=True))
    return _next(_replace(state, spec=spec))


def follows(state: EndpointState, version: VersionRef) -> bool:
    """Whether an endpoint that follows an alias should change, now that it means that version."""
    known = {state.active, state.target, state.refused}
    return version not in known and state.under_way is None and state.phase is not Phase.STARTING


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
