"""The config snapshot: everything a gateway needs, compiled by control, in one value.

Gateways ask for the next snapshot with the revision they hold, and control answers when it has
another. `revision` is a hash of the content, so a restarted control that compiles the same routes
changes nothing.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from shipway.core.access import Binding
from shipway.core.bundles import ModelConfig, Served
from shipway.core.capturing import Capture
from shipway.core.endpoints import Cache, Fallback, Limits
from shipway.core.evidence import TrialReport
from shipway.core.rates import CallerLimits
from shipway.core.signature import Signature
from shipway.core.strategies import Segment, Sticky
from shipway.wire.credentials import KeyEntry
from shipway.wire.tokens import TokenRules


class ReplicaAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A process replica. `address` is `unix:/path` or `tcp:host:port`."""

    id: str
    address: str


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One version behind an endpoint.

    `weight_pct` is its share of traffic; 0 keeps it prepared and warm without traffic.
    `inline` variants are loaded by the gateway from `bundle_dir`; others are reached at `replicas`.
    `may_sleep`: it may have no replica, and a request that is held wakes it. `asleep_error` says why
    it cannot be woken, `waits_for` what its start waits for.
    """

    model: str
    version: int
    digest: str
    weight_pct: int
    inline: bool
    bundle_dir: str
    served: Served
    signature: Signature
    config: ModelConfig
    classes: tuple[str | int | float | bool, ...] | None = None
    platform: str = ""
    replicas: tuple[ReplicaAddress, ...] = ()
    may_sleep: bool = False
    asleep_error: str = ""
    waits_for: str = ""

    @property
    def key(self) -> str:
        """`model:version`, unique within its endpoint."""
        return f"{self.model}:{self.version}"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout at one of its steps, for the gateways that carry it out.

    `primary` and `candidate` are keys of variants of the route; their weights are in the variants.
    `rollout` is also the salt of assignments: a key's place among the callers stays for as long as
    the rollout lasts. `mirror_pct` of the primary's requests are copied to the candidate. Requests
    outside of `segments` go to the primary. `tolerance` is the relative difference of scores that
    counts as agreement.
    """

    rollout: str
    epoch: int
    primary: str
    candidate: str
    mirror_pct: float = 0.0
    sticky: Sticky | None = None
    segments: tuple[Segment, ...] = ()
    tolerance: float = 0.05


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. `trial` is the rollout under way, once its candidate is ready."""

    name: str
    limits: Limits
    variants: tuple[Variant, ...]
    cache: Cache | None = None
    fallback: Fallback | None = None
    trial: Trial | None = None
    capture: Capture | None = None


class AccessList(msgspec.Struct, frozen=True, kw_only=True):
    """Who may ask what in an environment; by default nobody anything. `is_on` False: anybody everything.

    `projects` are the limits of tenants, by name. Keys are there as the SHA-256 of 256 random bits: the list opens nothing for who reads it.
    """

    is_on: bool = True
    environment: str = ""
    keys: tuple[KeyEntry, ...] = ()
    bindings: tuple[Binding, ...] = ()
    tokens: TokenRules | None = None
    projects: dict[str, CallerLimits] = {}


OPEN = AccessList(is_on=False)
"""The access list of a server without access control."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All endpoints of one environment, in name order, and who may ask them."""

    revision: str
    routes: tuple[Route, ...]
    access: AccessList = AccessList()

    @classmethod
    def of(cls, routes: tuple[Route, ...], access: AccessList) -> Snapshot:
        """The snapshot of these routes, its revision computed."""
        ordered = tuple(sorted(routes, key=lambda route: route.name))
        content = msgspec.msgpack.encode((ordered, access))
        return cls(revision=sha256(content).hexdigest()[:32], routes=ordered, access=access)


class VariantReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway says of one variant it knows.

    `weight_pct`: the traffic that this gateway gives it now, 0 once it left the snapshot.
    `ready`: it could answer a request now, or be woken by it. `in_flight`: requests inside it, of
    which `held` wait for it to wake. `load`: how many were inside in the mean of the last second or
    two. `idle_s`: since when none was. `error`: why it is not ready. A variant that left the snapshot
    is reported until its last request has ended.
    """

    endpoint: str
    variant: str
    ready: bool
    in_flight: int
    weight_pct: int = 0
    error: str = ""
    held: int = 0
    load: float = 0.0
    idle_s: float = 0.0


class DenialReport(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were turned away alike. `who` is empty where the credential proved nothing.

    `right` is what was missing; `source` is the caller's address. All empty: too many kinds at once.
    """

    who: str
    source: str
    right: str
    endpoint: str
    count: int = 1


class GatewayReport(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's state, sent each second (twice in a rollout) and at every change.

    `instance` is another one each time the gateway starts, for what it counts begins anew then.
    `trials` are what it has seen of the rollouts in its snapshot, by endpoint. `denials` are whom it
    turned away since the last report, `used_keys` the ids of keys that it saw since then.
    """

    gateway: str
    revision: str
    variants: tuple[VariantReport, ...]
    address: str = ""
    grpc_address: str = ""
    instance: str = ""
    trials: dict[str, TrialReport] = {}
    denials: tuple[DenialReport, ...] = ()
    used_keys: tuple[str, ...] = ()
