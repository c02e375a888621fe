"""Compiling what gateways need, from what is wanted and what runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import msgspec

from shipway.control.local_versions import LocalVersion
from shipway.core.bundles import Content, Format, Served
from shipway.core.endpoints import EndpointState
from shipway.core.observed import Desired
from shipway.core.reconcile import serving, start_failure, wanted_versions
from shipway.core.registry import VersionRecord
from shipway.core.replicas import Replica
from shipway.core.strategies import Disagreement
from shipway.core.versions import VersionRef
from shipway.wire.snapshot import AccessList, ReplicaAddress, Route, Snapshot, Trial, Variant

_PLATFORMS = {
    Format.TORCHSCRIPT: "pytorch_torchscript",
    Format.TORCH_EXPORT: "pytorch_export",
    Format.ONNX: "onnxruntime_onnx",
}


def compiled(
    desired: Iterable[Desired],
    local: Mapping[VersionRef, LocalVersion],
    replicas: Iterable[Replica],
    now: datetime,
    *,
    published: Snapshot | None,
    access: AccessList,
) -> Snapshot | None:
    """The snapshot of these endpoints at this moment.

    An endpoint whose active version is not known yet keeps the route that is `published`; None when
    there is no such route: nothing is better than a snapshot that takes a serving version away.
    """
    before = {route.name: route for route in published.routes} if published else {}
    all_replicas = tuple(replicas)
    routes = []
    for one in desired:
        active = one.state.active
        if active is None or _has_record(local, active):
            route: Route | None = _route(one, local, all_replicas, now)
        else:
            route = _still_right(before.get(one.state.spec.name), one.state)
        if route is None:
            return None
        routes.append(route)
    return Snapshot.of(tuple(routes), access)


def _still_right(route: Route | None, state: EndpointState) -> Route | None:
    """The route that was published, when its traffic goes where it should today."""
    if route is None:
        return None
    served = {variant.key for variant in route.variants if variant.weight_pct > 0}
    return route if served == {str(version) for version in state.weights()} else None


def _has_record(local: Mapping[VersionRef, LocalVersion], version: VersionRef) -> bool:
    return version in local and local[version].record is not None


def _route(
    one: Desired,
    local: Mapping[VersionRef, LocalVersion],
    replicas: tuple[Replica, ...],
    now: datetime,
) -> Route:
    spec = one.state.spec
    return Route(
        name=spec.name,
        limits=spec.limits,
        variants=tuple(_variants(one, local, replicas, now)),
        cache=spec.cache,
        fallback=spec.fallback,
        trial=_trial(one.state),
        capture=spec.capture,
    )


def _trial(state: EndpointState) -> Trial | None:
    """The rollout under way, for the gateways; None while its candidate is not ready."""
    rollout = state.releasing
    if rollout is None:
        return None
    position, disagreement = rollout.position, rollout.plan.guards.disagreement
    return Trial(
        rollout=rollout.id,
        epoch=rollout.epoch,
        primary=str(rollout.primary),
        candidate=str(rollout.candidate),
        mirror_pct=position.mirror_pct,
        sticky=position.sticky,
        segments=position.segments,
        tolerance=Disagreement().tolerance if disagreement is None else disagreement.tolerance,
    )


def _variants(
    one: Desired,
    local: Mapping[VersionRef, LocalVersion],
    replicas: tuple[Replica, ...],
    now: datetime,
) -> Iterator[Variant]:
    """The active version has the traffic, but for a rollout's share; others are prepared without any."""
    weights = one.state.weights()
    for version in wanted_versions(one.state, now):
        known = local.get(version)
        if known is None or known.record is None:
            continue
        is_inline = version in one.state.inline
        called = () if is_inline else serving(one, version, replicas)
        variant = _variant(
            known.record,
            bundle_dir=str(known.bundle_dir or ""),
            inline=is_inline,
            weight_pct=weights.get(version, 0),
            called=called,
        )
        yield _waking(variant, one, version, replicas) if version in one.sleepers else variant


def _waking(
    variant: Variant, one: Desired, version: VersionRef, replicas: tuple[Replica, ...]
) -> Variant:
    """The variant with what callers of it are told while it has no replica."""
    return msgspec.structs.replace(
        variant,
        may_sleep=True,
        asleep_error=start_failure(one, version, replicas),
        waits_for=one.waiting.get(version, ""),
    )


def _variant(
    record: VersionRecord,
    *,
    bundle_dir: str,
    inline: bool,
    weight_pct: int,
    called: tuple[Replica, ...],
) -> Variant:
    content = record.manifest.content
    return Variant(
        model=record.model,
        version=record.number,
        digest=record.digest,
        weight_pct=weight_pct,
        inline=inline,
        bundle_dir=bundle_dir,
        served=content.served,
        signature=content.signature,
        config=content.config,
        classes=content.classes,
        platform=platform_of(content),
        replicas=tuple(ReplicaAddress(id=r.id, address=r.address) for r in called),
    )


def platform_of(content: Content) -> str:
    """What Open Inference metadata calls the platform: by what serves, in the protocol's style."""
    if content.served is Served.ONNX:
        return "onnxruntime_onnx"
    return _PLATFORMS.get(content.format, f"{content.format.value}_python")
