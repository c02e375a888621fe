"""What people and clients are shown of endpoints: the declared state beside what was seen last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum

import msgspec

from shipway.control.gateways import SeenGateway
from shipway.control.local_versions import LocalVersion
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.isolation import Isolation
from shipway.core.observed import Desired, Observed, VersionFact
from shipway.core.reconcile import (
    is_ready_everywhere,
    is_routed_everywhere,
    replicas_of,
    start_failure,
    wanted_versions,
)
from shipway.core.registry import Role
from shipway.core.replicas import Batches, Replica, ReplicaState
from shipway.core.rollouts import RolloutPhase
from shipway.core.versions import VersionRef


class Placed(StrEnum):
    """Where a variant runs, once that is settled."""

    INLINE = "inline"
    PROCESS = "process"


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True):
    """One replica. `restarts` counts the remembered exits of its slot; `memory_mb` is 0 until measured."""

    id: str
    state: ReplicaState
    pid: int | None
    address: str
    started_at: datetime
    restarts: int
    message: str
    batches: Batches
    memory_mb: float
    isolation: Isolation


class VariantView(msgspec.Struct, frozen=True, kw_only=True):
    """One version behind an endpoint. `role` is `leaving` while its last requests are answered.

    `wanted` is how many replicas it should have now; `asleep`: none, until somebody asks.
    """

    version: str
    role: str
    weight_pct: int
    ready: bool
    placement: Placed
    served: str
    replicas: tuple[ReplicaView, ...]
    wanted: int
    asleep: bool


class RolloutLine(msgspec.Struct, frozen=True, kw_only=True):
    """The rollout under way in a line; `rollout status` has the whole of it."""

    id: str
    candidate: str
    phase: RolloutPhase
    step: str
    weight_pct: int


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint: what it should be, and what it is. `url` is empty while no gateway is there."""

    name: str
    environment: str
    phase: Phase
    message: str
    generation: int
    spec: EndpointSpec
    active: str | None
    target: str | None
    previous: str | None
    previous_until: datetime | None
    variants: tuple[VariantView, ...]
    url: str
    rollout: RolloutLine | None = None


class ChangeView(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did, or with `dry_run` would do. `endpoint` is None once it is deleted."""

    endpoint: EndpointView | None
    changes: tuple[str, ...]
    dry_run: bool


class GatewayView(msgspec.Struct, frozen=True, kw_only=True):
    """One live gateway."""

    id: str
    address: str
    revision: str
    seen_at: datetime
    grpc_address: str = ""


class MemoryView(msgspec.Struct, frozen=True, kw_only=True):
    """What all replica processes hold together, as last measured; None is no bound."""

    used_mb: float
    budget_mb: float | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the reconciler saw last; replaced as a whole, so that any thread may read it."""

    observed: Observed
    gateways: tuple[SeenGateway, ...]
    local: dict[VersionRef, LocalVersion]
    at: datetime
    decided: dict[str, Desired] = {}
    woken: dict[str, float] = {}
    refusals: dict[str, str] = {}

    def desired(self, state: EndpointState) -> Desired:
        """The state with what is known of its versions, and how many replicas they should have."""
        one = desired_of(state, self.local)
        last = self.decided.get(state.spec.name)
        if last is None:
            return one
        return msgspec.structs.replace(last, state=state, facts=one.facts)


def desired_of(state: EndpointState, local: dict[VersionRef, LocalVersion]) -> Desired:
    """The state with what is known of its versions."""
    named = {v for v in (state.active, state.target, state.previous) if v is not None}
    facts = {
        version: VersionFact(inline=version in state.inline, error=local[version].error)
        for version in named & local.keys()
    }
    return Desired(state=state, facts=facts)


def endpoint_view(state: EndpointState, seen: Seen) -> EndpointView:
    """The view of one endpoint.

    It is shown as live once the gateways route to the active version, not when the row says so: who
    waited for a deployment is answered by it with the next request.
    """
    one = seen.desired(state)
    is_switching = state.phase is Phase.LIVE and not is_routed_everywhere(state, seen.observed)
    switching = f"The gateways are switching to {state.active}." if is_switching else ""
    return EndpointView(
        name=state.spec.name,
        environment=state.spec.environment,
        phase=Phase.STARTING if is_switching else state.phase,
        message=state.message
        or switching
        or _waiting_for(one, seen)
        or _release_of(state)
        or seen.refusals.get(state.spec.name, "")
        or _sleep_of(one, seen),
        generation=state.generation,
        spec=state.spec,
        active=_name(state.active),
        target=_name(state.target),
        previous=_name(state.previous),
        previous_until=state.previous_until,
        variants=tuple(_variants(one, seen)),
        url=_url(state, seen.gateways),
        rollout=_rollout_line(state),
    )


def _rollout_line(state: EndpointState) -> RolloutLine | None:
    rollout = state.under_way
    if rollout is None:
        return None
    return RolloutLine(
        id=rollout.id,
        candidate=str(rollout.candidate),
        phase=rollout.phase,
        step=rollout.position.label,
        weight_pct=rollout.weight_pct,
    )


def gateway_views(seen: Seen) -> tuple[GatewayView, ...]:
    """The live gateways."""
    return tuple(
        GatewayView(
            id=gateway.report.gateway,
            address=gateway.report.address,
            revision=gateway.report.revision,
            seen_at=gateway.seen_at,
            grpc_address=gateway.report.grpc_address,
        )
        for gateway in seen.gateways
    )


def replica_views(replicas: Iterable[Replica]) -> tuple[ReplicaView, ...]:
    """The replicas that are there, each with the exits that its slot remembers."""
    everything = tuple(replicas)
    exits: dict[int, int] = {}
    for replica in everything:
        if replica.state is ReplicaState.EXITED:
            exits[replica.slot] = exits.get(replica.slot, 0) + 1
    return tuple(
        ReplicaView(
            id=replica.id,
            state=replica.state,
            pid=replica.pid,
            address=replica.address,
            started_at=replica.started_at,
            restarts=exits.get(replica.slot, 0),
            message=replica.message,
            batches=replica.batches,
            memory_mb=round(replica.memory_mb, 1),
            isolation=replica.isolation,
        )
        for replica in sorted(everything, key=lambda r: (r.slot, r.started_at))
        if replica.state is not ReplicaState.EXITED or not _is_replaced(replica, everything)
    )


def _is_replaced(exited: Replica, others: Iterable[Replica]) -> bool:
    """Whether a newer replica of its slot tells more than this exited one."""
    return any(r.slot == exited.slot and r.started_at > exited.started_at for r in others)


def _variants(one: Desired, seen: Seen) -> Iterator[VariantView]:
    state, replicas = one.state, seen.observed.replicas
    failed = state.target if state.phase is Phase.FAILED else None
    weights = state.weights()
    shown = dict.fromkeys(
        (
            *wanted_versions(state, seen.at),
            *((failed,) if failed else ()),
            *(r.version for r in replicas if r.endpoint == state.spec.name),
        )
    )
    for version in shown:
        mine = replicas_of(replicas, state.spec.name, version)
        yield VariantView(
            version=str(version),
            role=_role(state, version, seen.at),
            weight_pct=weights.get(version, 0),
            ready=_can_answer(one, version, seen.observed),
            placement=Placed.INLINE if version in state.inline else Placed.PROCESS,
            served=_served(version, seen),
            replicas=replica_views(mine),
            wanted=0 if version in state.inline or version == failed else one.count_of(version),
            asleep=_is_asleep(one, version),
        )


def _is_asleep(one: Desired, version: VersionRef) -> bool:
    return version in one.sleepers and one.count_of(version) == 0


def _sleep_of(one: Desired, seen: Seen) -> str:
    """What its callers find who come unannounced; empty where replicas are always there."""
    active = one.state.active
    if active is None or active not in one.sleepers:
        return ""
    failure = start_failure(one, active, seen.observed.replicas) or one.waiting.get(active)
    if failure:
        return failure
    if _is_asleep(one, active):
        return "Asleep; the next request wakes it."
    took_s = seen.woken.get(one.state.spec.name)
    return "" if took_s is None else f"Woken in {took_s:.2f} s."


def _release_of(state: EndpointState) -> str:
    rollout = state.releasing
    if rollout is None:
        return ""
    shares = f"{rollout.candidate} has {rollout.weight_pct} % at `{rollout.position.label}`"
    return f"Rollout {rollout.phase.value}: {shares}. {rollout.message}"


def _role(state: EndpointState, version: VersionRef, now: datetime) -> str:
    if version == state.active:
        return Role.PRIMARY.value
    if version == state.target:
        return Role.CANDIDATE.value
    if version in wanted_versions(state, now):
        return Role.PREVIOUS.value
    return "leaving"


def _can_answer(one: Desired, version: VersionRef, observed: Observed) -> bool:
    """Whether every live gateway could send it a request now."""
    key = (one.state.spec.name, str(version))
    reports = [gateway.variants.get(key) for gateway in observed.gateways]
    has_replica = (
        version in one.state.inline
        or version in one.sleepers
        or any(
            r.state is ReplicaState.READY
            for r in replicas_of(observed.replicas, one.state.spec.name, version)
        )
    )
    return has_replica and bool(reports) and all(r is not None and r.ready for r in reports)


def _served(version: VersionRef, seen: Seen) -> str:
    local = seen.local.get(version)
    return local.record.served.value if local is not None and local.record is not None else ""


def _waiting_for(one: Desired, seen: Seen) -> str:
    """What a change under way waits for; empty when none is."""
    target = one.state.target
    if one.state.phase is not Phase.STARTING or target is None:
        return ""
    if target not in one.facts:
        return f"Fetching {target}."
    if is_ready_everywhere(one, target, seen.observed):
        return f"Switching to {target}."
    if target not in one.state.inline:
        waiting = _waiting_replicas(one, target, seen.observed)
        if waiting:
            return waiting
    if not seen.observed.gateways:
        return "Waiting for a gateway: none has reported."
    return f"Waiting for the gateways to get {target} ready."


def _waiting_replicas(one: Desired, target: VersionRef, observed: Observed) -> str:
    mine = replicas_of(observed.replicas, one.state.spec.name, target)
    ready = [r for r in mine if r.state is ReplicaState.READY]
    wanted = one.count_of(target)
    if one.waiting.get(target):
        return one.waiting[target]
    if len(ready) >= wanted:
        return ""
    building = next((r for r in mine if r.state is ReplicaState.BUILDING), None)
    if building is not None:
        return f"Building the environment of {target}. {building.message}".strip()
    exited = max(
        (r for r in mine if r.exited_at is not None), key=lambda r: r.started_at, default=None
    )
    last = f" The last attempt: {exited.message}" if exited is not None else ""
    return f"Starting {target}: {len(ready)} of {wanted} replicas are ready.{last}"


def _url(state: EndpointState, gateways: Iterable[SeenGateway]) -> str:
    address = next((g.report.address for g in gateways if g.report.address), "")
    return f"{address}/v2/models/{state.spec.name}/infer" if address else ""


def _name(version: VersionRef | None) -> str | None:
    return None if version is None else str(version)
