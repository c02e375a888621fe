"""What the server answers, typed. Members that a newer server adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from shipway.core.access import Grant, PrincipalKind
from shipway.core.bundles import Manifest
from shipway.core.candidacy import Opinion, Promotion, Rule
from shipway.core.endpoints import EndpointSpec, Phase
from shipway.core.guards import Finding
from shipway.core.isolation import Isolation
from shipway.core.policy import DeclaredPolicy
from shipway.core.rates import CallerLimits
from shipway.core.replicas import Batches
from shipway.core.rollouts import UNDER_WAY, Moment, RolloutPhase
from shipway.core.strategies import RolloutPlan
from shipway.core.tensors import Array


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version. `manifest` is there when one version was asked for by name.

    `created` is False when registering found the same digest already there.
    """

    model: str
    number: int
    digest: str
    format: str = ""
    served: str = ""
    created_at: datetime | None = None
    created_by: str = ""
    aliases: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    manifest: Manifest | None = None
    created: bool = True

    def __str__(self) -> str:
        return f"{self.model}:{self.number}"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model, its versions (oldest first) and where its aliases point."""

    name: str
    versions: tuple[Version, ...] = ()
    aliases: dict[str, int] = {}


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """An alias after a change. `version` is None once it was deleted."""

    model: str
    alias: str
    version: int | None = None
    previous: int | None = None


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One running copy of a variant, as control last saw it."""

    id: str
    state: str = ""
    pid: int | None = None
    address: str = ""
    started_at: datetime | None = None
    restarts: int = 0
    message: str = ""
    batches: Batches = Batches()
    memory_mb: float = 0.0
    isolation: Isolation = Isolation()


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One version behind an endpoint. `version` reads `churn:2`.

    `wanted` is how many replicas it should have now; one that is `asleep` has none until it is asked.
    """

    version: str
    role: str = ""
    weight_pct: int = 0
    ready: bool = False
    placement: str = ""
    served: str = ""
    replicas: tuple[Replica, ...] = ()
    wanted: int = 0
    asleep: bool = False


class RolloutLine(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout under way in a line; `Client.rollout` has the whole of it."""

    id: str
    candidate: str
    phase: RolloutPhase
    step: str = ""
    weight_pct: int = 0


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint: what it should be, and what it is. Versions read `churn:2`."""

    name: str
    phase: Phase
    environment: str = ""
    message: str = ""
    generation: int = 0
    spec: EndpointSpec | None = None
    active: str | None = None
    target: str | None = None
    previous: str | None = None
    previous_until: datetime | None = None
    variants: tuple[Variant, ...] = ()
    url: str = ""
    rollout: RolloutLine | None = None

    @property
    def aim(self) -> str | None:
        """The version that is to serve: the target of a change under way, else the active one."""
        return self.target or self.active

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """All replicas of all variants."""
        return tuple(replica for variant in self.variants for replica in variant.replicas)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did, or with `dry_run` would do. `changes` is for people to read."""

    endpoint: Endpoint | None = None
    changes: tuple[str, ...] = ()
    dry_run: bool = False


class RolloutStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan. `state` is `done`, `now` or `ahead`; it is held for `hold_s` at least."""

    label: str
    weight_pct: int = 0
    mirror_pct: float = 0.0
    hold_s: float = 0.0
    pause: bool = False
    state: str = "ahead"


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one version in the present step; times are None of nothing.

    `labels` are the shares of its most frequent answers, `score` is the middle of its numbers.
    """

    version: str
    weight_pct: int = 0
    answered: int = 0
    failed: int = 0
    rejected: int = 0
    shed: int = 0
    error_pct: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    labels: dict[str, float] = {}
    score: float | None = None
    last_error: str = ""


class PairCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of requests that both versions answered."""

    compared: int = 0
    agreed: int = 0
    dropped: int = 0
    disagreement_pct: float = 0.0
    median_distance: float | None = None
    median_delay_ms: float | None = None


class OutcomeMeans(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of one metric, over the whole rollout."""

    metric: str
    primary_n: int = 0
    primary_mean: float = 0.0
    candidate_n: int = 0
    candidate_mean: float = 0.0


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout: its plan, where it stands, what was seen, and what the guards say of it.

    `elapsed_s` is how long the present step has lasted. `preview` is where the candidate answers by
    itself while the rollout is under way.
    """

    id: str
    endpoint: str
    phase: RolloutPhase
    primary: Side
    candidate: Side
    environment: str = ""
    plan: RolloutPlan | None = None
    steps: tuple[RolloutStep, ...] = ()
    step: str = ""
    elapsed_s: float = 0.0
    message: str = ""
    findings: tuple[Finding, ...] = ()
    pairs: PairCounts | None = None
    outcomes: tuple[OutcomeMeans, ...] = ()
    history: tuple[Moment, ...] = ()
    started_at: datetime | None = None
    started_by: str = ""
    ended_at: datetime | None = None
    preview: str = ""

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended."""
        return self.phase in UNDER_WAY


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of outcomes: counted, known by their id already, or of neither version."""

    counted: int = 0
    known: int = 0
    unmatched: int = 0


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway, as control last heard of it."""

    id: str
    address: str = ""
    revision: str = ""
    seen_at: datetime | None = None
    grpc_address: str = ""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What all replica processes hold together; `budget_mb` is None without a bound."""

    used_mb: float = 0.0
    budget_mb: float | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The server in one answer."""

    version: str = ""
    environment: str = ""
    control_url: str = ""
    gateways: tuple[Gateway, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    memory: Memory = Memory()


class DiffLine(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. `before` or `after` is None when the thing is only on the other side."""

    section: str
    name: str
    before: Any = None
    after: Any = None


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two versions of a model."""

    model: str
    before: int
    after: int
    changes: tuple[DiffLine, ...] = ()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version of a model serves."""

    endpoint: str
    version: str
    environment: str = ""
    role: str = ""
    replicas: tuple[Replica, ...] = ()


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """The last lines of an endpoint's replicas."""

    lines: tuple[str, ...] = ()


class TensorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output in an endpoint's metadata."""

    name: str
    datatype: str
    shape: tuple[int, ...] = (-1,)


class EndpointMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Open Inference metadata of an endpoint."""

    name: str
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    versions: tuple[str, ...] = ()
    platform: str = ""
    parameters: dict[str, Any] = {}


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model: its outputs by name, and which version gave it."""

    endpoint: str
    version: str
    outputs: dict[str, Array]
    id: str = ""

    def __getitem__(self, name: str) -> Array:
        return self.outputs[name]

    @property
    def label(self) -> Array:
        """The labels of a classifier, clusterer or outlier detector, one per row.

        Raises:
            KeyError: the model has no output of that name.
        """
        return self.outputs["label"]

    @property
    def values(self) -> Array:
        """The main output: `prediction`, else `label`, else the first one."""
        for name in ("prediction", "label"):
            if name in self.outputs:
                return self.outputs[name]
        return next(iter(self.outputs.values()))


class PolicyChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a change of a policy did, or with `dry_run` would do. `declared` is None once it is gone."""

    name: str
    declared: DeclaredPolicy | None = None
    changes: tuple[str, ...] = ()
    dry_run: bool = False


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said last of a version, and whether it has weight."""

    reviewer: str
    decision: Opinion
    reason: str = ""
    at: datetime | None = None
    counts: bool = True


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version stands on its way into an environment.

    `rules` are all that a promotion needs, met or not. `promotion` is on record once it was promoted,
    and `admitted` says that it may be deployed there. `alias` is the number that the alias named like
    the environment points at, `previous` what it pointed at before; `followers` are the endpoints that
    follow the alias, `serving` those of the environment where the version serves or is on its way.
    """

    environment: str
    version: str
    digest: str
    has_policy: bool = True
    rules: tuple[Rule, ...] = ()
    reviews: tuple[Reviewed, ...] = ()
    promotion: Promotion | None = None
    admitted: bool = False
    alias: int | None = None
    previous: int | None = None
    followers: tuple[str, ...] = ()
    serving: tuple[str, ...] = ()
    dry_run: bool = False


class Whoami(msgspec.Struct, frozen=True, kw_only=True):
    """Who the caller is to the server, and what it may do. `key` is the id of its key."""

    name: str
    kind: PrincipalKind
    grants: tuple[Grant, ...] = ()
    key: str = ""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An API key without its secret. `expires_at` None: it does not expire."""

    id: str
    name: str
    is_good: bool
    grants: tuple[Grant, ...] = ()
    created_at: datetime | None = None
    created_by: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced_by: str = ""
    last_used_at: datetime | None = None
    limits: CallerLimits | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project, and what all callers of its endpoints may use together."""

    name: str
    limits: CallerLimits = CallerLimits()


class NewKey(Key, frozen=True, kw_only=True):
    """A key just made; `key` is the whole of it, which the server does not keep."""

    key: str
