"""What a plan compares: one moment's declared endpoints, and what was seen to run."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shipway.core.endpoints import EndpointState
from shipway.core.evidence import Evidence
from shipway.core.replicas import Replica, ReplicaState
from shipway.core.versions import VersionRef


class VersionFact(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version on this machine: where it runs, or why it cannot."""

    inline: bool
    error: str = ""


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """One declared endpoint. A version without a fact is not known yet; nothing is done for it.

    `counts`: how many replicas a version should have now; `spec.replicas` where it is not named, and
    0 while it sleeps or has made room for others. `waiting`: versions of which no replica may start
    now, and why; the reason is empty when it passes by itself. `refused`: versions that cannot start
    on this machine, and why. `sleepers`: versions that may have no replica, and are woken by a request.
    `evidence` is on the rollout, while its candidate may get requests.
    """

    state: EndpointState
    facts: Mapping[VersionRef, VersionFact]
    counts: Mapping[VersionRef, int] = {}
    waiting: Mapping[VersionRef, str] = {}
    refused: Mapping[VersionRef, str] = {}
    sleepers: frozenset[VersionRef] = frozenset()
    evidence: Evidence | None = None

    def count_of(self, version: VersionRef) -> int:
        """How many replicas the version should have now."""
        return self.counts.get(version, self.state.spec.replicas)

    @property
    def is_asleep(self) -> bool:
        """Whether the endpoint has no replica, and should have none until the next request."""
        active = self.state.active
        return active is not None and active in self.sleepers and self.count_of(active) == 0


class VariantEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway says of one variant.

    `in_flight` counts the `held` requests too, which no replica has yet. `load` is the mean number of
    requests inside over the last second or two. `asked_s` is when one was last inside, on control's
    steady clock.
    """

    ready: bool
    in_flight: int = 0
    held: int = 0
    load: float = 0.0
    asked_s: float = 0.0
    weight_pct: int = 0
    error: str = ""


class GatewayEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What one live gateway says; `variants` by endpoint and version.

    `names` are the replicas in its snapshot and in all that were published since, any of which it
    may have by now; None when control does not remember so far back.
    """

    id: str
    revision: str
    variants: Mapping[tuple[str, str], VariantEvidence]
    names: frozenset[str] | None = None


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What runs at one moment.

    `revision` is the snapshot that is published now. `settled` says that every live gateway has had
    time to report since control started; before that nothing is stopped, and no active version is
    replaced.
    """

    replicas: tuple[Replica, ...]
    gateways: tuple[GatewayEvidence, ...]
    revision: str
    settled: bool = True

    def ready(self, one: Desired, version: VersionRef) -> int:
        """How many replicas of a version answer; where gateways have the model, how many of them do."""
        name = one.state.spec.name
        if version in one.state.inline:
            said = (gateway.variants.get((name, str(version))) for gateway in self.gateways)
            return sum(evidence is not None and evidence.ready for evidence in said)
        return sum(
            replica.state is ReplicaState.READY
            for replica in self.replicas
            if replica.endpoint == name and replica.version == version
        )
