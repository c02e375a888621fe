"""What to do so that what runs becomes what was declared: a pure plan.

`plan` looks at one moment and returns Actions; carrying them out, all or some, once or twice, and
planning again leads to the same place. Versions are wanted in three roles: the active one serves,
the target is brought up to replace it, the previous one is kept warm for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from shipway.core.endpoints import EndpointState, Phase
from shipway.core.isolation import Sandbox
from shipway.core.observed import Desired, Observed
from shipway.core.replicas import Replica, ReplicaState, is_due, restart_at
from shipway.core.rollouts import Decision, Rollout, decide
from shipway.core.secrets import Secrets, in_order
from shipway.core.versions import VersionRef

TARGET_ATTEMPTS = 3
"""A target whose replicas exited so often has failed."""

KEPT_EXITS = 8
"""Exited replicas remembered per slot; older ones are forgotten."""

FATAL_CODES = frozenset({"bundle_corrupt", "isolation_failed"})
"""Exits that another attempt cannot mend."""


class StartReplica(msgspec.Struct, frozen=True, kw_only=True):
    """Start one replica of a version in a free slot."""

    endpoint: str
    version: VersionRef
    slot: int
    generation: int
    max_batch_rows: int
    max_batch_delay_ms: float
    secrets: Secrets = ()
    redacts: bool = False
    sandbox: Sandbox = Sandbox()


class StopReplica(msgspec.Struct, frozen=True, kw_only=True):
    """Let a replica finish its work and end; nobody routes to it any more."""

    id: str


class KillReplica(msgspec.Struct, frozen=True, kw_only=True):
    """End a hung replica at once; its slot is filled again."""

    id: str
    reason: str


class ForgetReplica(msgspec.Struct, frozen=True, kw_only=True):
    """Drop the record and log of an exited replica that no decision needs any more."""

    id: str


class Activate(msgspec.Struct, frozen=True, kw_only=True):
    """Make the target the active version. Valid for that target and generation only."""

    endpoint: str
    target: VersionRef
    generation: int


class FailTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Give up the target and say why. Valid for that target and generation only."""

    endpoint: str
    target: VersionRef
    generation: int
    message: str


class BeginRollout(msgspec.Struct, frozen=True, kw_only=True):
    """Let the rollout of a target that is ready begin. Valid for that target and generation only."""

    endpoint: str
    target: VersionRef
    generation: int


class MoveRollout(msgspec.Struct, frozen=True, kw_only=True):
    """Move the rollout on, or end it. Valid for that target and generation only."""

    endpoint: str
    target: VersionRef
    generation: int
    decision: Decision


Move = Activate | FailTarget | BeginRollout | MoveRollout
"""The actions that change an endpoint's state."""

Action = StartReplica | StopReplica | KillReplica | ForgetReplica | Move


def plan(desired: Iterable[Desired], observed: Observed, now: datetime) -> tuple[Action, ...]:
    """The next actions, in a fixed order; empty when nothing is to be done at `now`."""
    actions: list[Action] = []
    wanted_ids: set[str] = set()
    for one in desired:
        for version in wanted_versions(one.state, now):
            mine = replicas_of(observed.replicas, one.state.spec.name, version)
            wanted_ids.update(replica.id for replica in mine)
            actions += _keep_version(one, version, mine, observed, now)
        wanted_ids.update(_failed_exits(one.state, observed.replicas))
        actions += _move_target(one, observed)
        actions += _move_rollout(one)
    unwanted = (replica for replica in observed.replicas if replica.id not in wanted_ids)
    return (*actions, *_remove(unwanted, observed))


def wanted_versions(state: EndpointState, now: datetime) -> tuple[VersionRef, ...]:
    """The versions that are to be ready: active, target, warm previous; each once, in that order."""
    is_coming = state.phase in (Phase.STARTING, Phase.RELEASING)
    target = state.target if is_coming else None
    is_warm = state.previous_until is not None and now < state.previous_until
    previous = state.previous if is_warm else None
    wanted = (version for version in (state.active, target, previous) if version is not None)
    return tuple(dict.fromkeys(wanted))


def replicas_of(
    replicas: Iterable[Replica], endpoint: str, version: VersionRef
) -> tuple[Replica, ...]:
    """The replicas of one variant."""
    return tuple(r for r in replicas if r.endpoint == endpoint and r.version == version)


def serving(one: Desired, version: VersionRef, replicas: Iterable[Replica]) -> tuple[Replica, ...]:
    """The replicas of a variant that gateways should call, in slot order.

    When every wanted slot has an up-to-date ready replica: those. Until then: all that are ready,
    so that a change of scale or limits never takes away more than it gives.
    """
    mine = replicas_of(replicas, one.state.spec.name, version)
    ready = sorted(
        (r for r in mine if r.state is ReplicaState.READY), key=lambda r: (r.slot, r.started_at)
    )
    chosen = {r.slot: r for r in reversed(ready) if _is_current(one, r)}
    slots = range(one.count_of(version))
    if all(slot in chosen for slot in slots):
        return tuple(chosen[slot] for slot in slots)
    return tuple(ready)


def is_ready_everywhere(one: Desired, version: VersionRef, observed: Observed) -> bool:
    """Whether all its replicas are ready and every live gateway (at least one) can call it."""
    fact = one.facts.get(version)
    if fact is None or fact.error or not observed.gateways:
        return False
    if not fact.inline and not _has_all_slots(one, version, observed.replicas):
        return False
    key = (one.state.spec.name, str(version))
    reports = [gateway.variants.get(key) for gateway in observed.gateways]
    return all(report is not None and report.ready for report in reports)


def is_routed_everywhere(state: EndpointState, observed: Observed) -> bool:
    """Whether every live gateway gives its traffic to the active version by now."""
    key = (state.spec.name, str(state.active))
    reports = (gateway.variants.get(key) for gateway in observed.gateways)
    return all(report is not None and report.weight_pct > 0 for report in reports)


def _has_all_slots(one: Desired, version: VersionRef, replicas: Iterable[Replica]) -> bool:
    mine = replicas_of(replicas, one.state.spec.name, version)
    ready = {r.slot for r in mine if r.state is ReplicaState.READY and _is_current(one, r)}
    return ready >= set(range(one.count_of(version)))


def _is_current(one: Desired, replica: Replica) -> bool:
    return (
        replica.slot < one.count_of(replica.version)
        and replica.max_batch_rows == one.state.spec.limits.max_batch_rows
        and replica.max_batch_delay_ms == one.state.spec.limits.max_batch_delay_ms
        and replica.secrets == in_order(one.state.spec.secrets)
        and replica.redacts == one.state.spec.redacts
        and replica.sandbox == one.state.spec.sandbox
    )


def start_failure(one: Desired, version: VersionRef, replicas: Iterable[Replica]) -> str:
    """Why a version that callers wait for cannot start; empty while it still may.

    What its last replica said, once as many as a target may lose have ended without being ready.
    """
    fact = one.facts.get(version)
    if version in one.refused or (fact is not None and fact.error):
        return one.refused.get(version) or (fact.error if fact is not None else "")
    mine = replicas_of(replicas, one.state.spec.name, version)
    if any(r.state is ReplicaState.READY for r in mine):
        return ""
    exits = sorted((r for r in mine if r.state is ReplicaState.EXITED), key=_exit_time)
    was_ready = [number for number, r in enumerate(exits) if r.ready_at is not None]
    failures = exits[was_ready[-1] + 1 :] if was_ready else exits
    return _last_words(failures)


def _last_words(exits: Sequence[Replica]) -> str:
    """What the last of these exited replicas said; empty while another attempt may mend it."""
    if len(exits) < TARGET_ATTEMPTS and not any(r.code in FATAL_CODES for r in exits):
        return ""
    return exits[-1].message or "Its replicas exited without a message."


def _exit_time(replica: Replica) -> datetime:
    return replica.exited_at or replica.started_at


def _keep_version(
    one: Desired,
    version: VersionRef,
    mine: tuple[Replica, ...],
    observed: Observed,
    now: datetime,
) -> list[Action]:
    deadline_s = one.state.spec.limits.deadline_ms / 1000
    hung = [r for r in mine if r.is_running and r.is_hung(now, deadline_s=deadline_s)]
    actions: list[Action] = [KillReplica(id=r.id, reason=_why_hung(r)) for r in hung]
    fact = one.facts.get(version)
    if fact is None or fact.error:
        return actions
    running = tuple(r for r in mine if r.is_running and r not in hung)
    if not fact.inline:
        starts = startable(one, version, mine, now)
        actions += () if version in one.waiting else starts
    called = () if fact.inline else _kept(one, version, running)
    if fact.inline or called:
        surplus = (r for r in running if r not in called)
        actions += _stop_unrouted(surplus, observed)
    elif one.count_of(version) == 0:
        # Asleep, or evicted: from now on it counts as new, and failures of old are not held against it.
        return [*actions, *_remove(mine, observed)]
    return actions + _forget_old_exits(mine)


def _kept(one: Desired, version: VersionRef, running: tuple[Replica, ...]) -> tuple[Replica, ...]:
    """The replicas that stay when every slot is ready; empty when one is not, and all stay."""
    if not _has_all_slots(one, version, running):
        return ()
    return serving(one, version, running)


def startable(
    one: Desired, version: VersionRef, mine: tuple[Replica, ...], now: datetime
) -> list[StartReplica]:
    """The replicas of a variant that are missing and may be started; `mine` are those it has."""
    state = one.state
    deadline_s = state.spec.limits.deadline_ms / 1000
    taken = {
        r.slot
        for r in mine
        if r.is_running and _is_current(one, r) and not r.is_hung(now, deadline_s=deadline_s)
    }
    starts = []
    for slot in range(one.count_of(version)):
        due = restart_at(r for r in _exits_that_count(state, version, mine) if r.slot == slot)
        if slot not in taken and is_due(due, now):
            start = StartReplica(
                endpoint=state.spec.name,
                version=version,
                slot=slot,
                generation=state.generation,
                max_batch_rows=state.spec.limits.max_batch_rows,
                max_batch_delay_ms=state.spec.limits.max_batch_delay_ms,
                secrets=in_order(state.spec.secrets),
                redacts=state.spec.redacts,
                sandbox=state.spec.sandbox,
            )
            starts.append(start)
    return starts


def _exits_that_count(
    state: EndpointState, version: VersionRef, mine: Iterable[Replica]
) -> list[Replica]:
    """A target starts with a clean slate: exits under earlier generations are not held against it."""
    exits = [r for r in mine if r.state is ReplicaState.EXITED]
    if version != state.target or state.phase is Phase.RELEASING:
        return exits
    return [r for r in exits if r.generation == state.generation]


def _forget_old_exits(mine: Iterable[Replica]) -> list[Action]:
    exits = sorted(
        (r for r in mine if r.state is ReplicaState.EXITED),
        key=_exit_time,
        reverse=True,
    )
    seen: dict[int, int] = {}
    forgotten: list[Action] = []
    for replica in exits:
        seen[replica.slot] = seen.get(replica.slot, 0) + 1
        if seen[replica.slot] > KEPT_EXITS:
            forgotten.append(ForgetReplica(id=replica.id))
    return forgotten


def _stop_unrouted(surplus: Iterable[Replica], observed: Observed) -> list[Action]:
    """Stops replicas of a wanted variant once no gateway holds a snapshot that names them."""
    return [StopReplica(id=r.id) for r in surplus if _is_unrouted(r, observed)]


def _is_unrouted(replica: Replica, observed: Observed) -> bool:
    """Whether no live gateway has, or is about to have, a snapshot that names it."""
    for gateway in observed.gateways:
        if gateway.revision == observed.revision:
            continue
        if gateway.names is None or replica.id in gateway.names:
            return False
    return observed.settled


def _failed_exits(state: EndpointState, replicas: Iterable[Replica]) -> set[str]:
    """The exits of a failed target: their logs stay readable until the next change."""
    if state.phase is not Phase.FAILED or state.target is None:
        return set()
    mine = replicas_of(replicas, state.spec.name, state.target)
    return {replica.id for replica in mine if replica.state is ReplicaState.EXITED}


def _move_rollout(one: Desired) -> list[Action]:
    rollout, target = one.state.releasing, one.state.target
    if rollout is None or target is None or one.evidence is None:
        return []
    decision = decide(rollout, one.evidence)
    if decision is None:
        return []
    move = MoveRollout(
        endpoint=one.state.spec.name,
        target=target,
        generation=one.state.generation,
        decision=decision,
    )
    return [move]


def _move_target(one: Desired, observed: Observed) -> list[Action]:
    state = one.state
    if state.phase is not Phase.STARTING or state.target is None:
        return []
    failure = _failure_of_target(one, state.target, observed)
    if failure:
        return [
            FailTarget(
                endpoint=state.spec.name,
                target=state.target,
                generation=state.generation,
                message=failure,
            )
        ]
    # A gateway that has not reported to a new control yet may be the one that is not ready.
    may_switch = observed.settled or state.active is None
    if may_switch and is_ready_everywhere(one, state.target, observed):
        kind = Activate if state.under_way is None else BeginRollout
        return [kind(endpoint=state.spec.name, target=state.target, generation=state.generation)]
    return []


def ended_since(rollout: Rollout, replicas: Iterable[Replica]) -> int:
    """How many replicas of a rollout's candidate ended, having been ready, since it began."""
    mine = replicas_of(replicas, rollout.endpoint, rollout.candidate)
    return sum(
        r.state is ReplicaState.EXITED
        and r.ready_at is not None
        and r.exited_at is not None
        and r.exited_at >= rollout.started_at
        for r in mine
    )


def _failure_of_target(one: Desired, target: VersionRef, observed: Observed) -> str:
    """Why the target cannot come up; empty while it still may."""
    fact = one.facts.get(target)
    if fact is None:
        return ""
    if fact.error or target in one.refused:
        return fact.error or one.refused[target]
    if fact.inline:
        key = (one.state.spec.name, str(target))
        reports = (gateway.variants.get(key) for gateway in observed.gateways)
        return next((r.error for r in reports if r is not None and r.error), "")
    mine = replicas_of(observed.replicas, one.state.spec.name, target)
    return _last_words(sorted(_exits_that_count(one.state, target, mine), key=_exit_time))


def _remove(unwanted: Iterable[Replica], observed: Observed) -> Iterable[Action]:
    for replica in unwanted:
        if replica.state is ReplicaState.EXITED:
            yield ForgetReplica(id=replica.id)
        elif replica.is_running and _is_drained(replica, observed):
            yield StopReplica(id=replica.id)


def _is_drained(replica: Replica, observed: Observed) -> bool:
    """Whether every live gateway has the snapshot without it and no request inside it."""
    key = (replica.endpoint, str(replica.version))
    reports = (gateway.variants.get(key) for gateway in observed.gateways)
    is_empty = all(report is None or report.in_flight <= report.held for report in reports)
    return is_empty and _is_unrouted(replica, observed)


def _why_hung(replica: Replica) -> str:
    if replica.state is ReplicaState.STARTING:
        return f"Replica `{replica.id}` did not become ready in time."
    if replica.state is ReplicaState.UNRESPONSIVE:
        return f"Replica `{replica.id}` stopped answering."
    return (
        f"Replica `{replica.id}` was {replica.busy_s:.0f} s in one model call, past its deadline."
    )
