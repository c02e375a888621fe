"""What an endpoint should be (its spec) and where its changes stand (its state)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from shipway.core.alerts.plan import AlertPlan
from shipway.core.budgets import Budget
from shipway.core.capturing import Capture
from shipway.core.isolation import Sandbox
from shipway.core.monitors import DEFAULTS, MonitorSpec
from shipway.core.rates import CallerLimits, RateLimit
from shipway.core.rollouts import Rollout
from shipway.core.secrets import SecretRef
from shipway.core.strategies import RolloutPlan
from shipway.core.versions import VersionRef

LONGEST_WARM_S = 365 * 24 * 3600.0
"""A replaced version is kept warm for a year at most: dates end somewhere."""


class Placement(StrEnum):
    """Where a variant's model runs."""

    AUTO = "auto"
    """`inline` for ONNX that is small and fast, else `process`; `shipway show` says why."""

    INLINE = "inline"
    """In the gateway's process; only for pure-data formats (ONNX)."""

    PROCESS = "process"
    """In its own process and environment."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of an endpoint. Past one, the answer is immediate and typed."""

    max_body_bytes: Annotated[int, msgspec.Meta(ge=1)] = 16 * 1024 * 1024
    """Larger bodies get 413."""

    max_queue: Annotated[int, msgspec.Meta(ge=1)] = 256
    """Requests inside the endpoint at once, over all gateways of a machine; one more gets 429."""

    deadline_ms: Annotated[int, msgspec.Meta(ge=1)] = 30_000
    """A request unanswered for so long gets 504."""

    max_batch_rows: Annotated[int, msgspec.Meta(ge=1)] = 64
    """A replica stacks at most so many rows into one model call."""

    max_batch_delay_ms: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 5.0
    """A replica waits at most so long for company, and only where it has learnt that this pays."""

    rate: RateLimit | None = None
    """Requests per second over all callers; one more gets 429."""

    daily_requests: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Requests per day (UTC) over all callers; one more gets 429."""

    cost: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Units that a request takes from the daily budgets of its caller."""

    @property
    def over_all_callers(self) -> CallerLimits:
        """Those that are counted like a caller's."""
        return CallerLimits(rate=self.rate, daily_requests=self.daily_requests)


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the number of replicas follows the load, with placement `process`."""

    min_replicas: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1
    """Never fewer; with 0, an idle endpoint has none, and the next request starts one."""

    max_replicas: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    """Never more."""

    target_concurrency: Annotated[float, msgspec.Meta(gt=0)] = 8.0
    """Requests per replica, waiting ones included, that the number is chosen for."""

    down_after_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """Replicas are taken away once the load has been lower for so long."""

    idle_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """With `min_replicas: 0`, the last replica ends after so long without a request."""


class Residency(StrEnum):
    """Which models stay in memory when the server has a memory budget."""

    AUTO = "auto"
    """Loaded when asked for; ended when the budget needs room and it was used longest ago."""

    PRELOAD = "preload"
    """Loaded when the server starts; else like `auto`."""

    PINNED = "pinned"
    """Loaded when the server starts, and never ended to make room."""


class Cache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers kept for equal inputs to the same version."""

    ttl_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """An answer is given again for so long."""

    max_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 * 1024 * 1024
    """Kept at most in one gateway; the answer unused for longest goes first. Valkey has its own bound."""


class Fallback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What answers when the endpoint's own version cannot. Exactly one is given."""

    endpoint: str | None = None
    """Another endpoint of the same environment; it gets the same inputs."""

    version: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Another version of the model behind this endpoint (the previous one, while it is warm)."""

    answer: dict[str, list[Any]] | None = None
    """One row's outputs, by name; given for every row."""

    always: bool = False
    """Answer so whatever the version could say: until it is false again, no request reaches it."""


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person declares about an endpoint, in YAML or through the API.

    `model` is `name:2`, `name@alias` or `name` (newest). `environment` is the server's own when empty. `warm_s` is how long the replaced version's
    replicas are kept ready for an instant rollback. With `scaling`, the number of replicas follows the
    load, and `replicas` is what it begins with. `rollout` is how one version replaces another; all at
    once when left out. `secrets` are variables that the model's process gets when it starts.
    `capture` says what is kept of predictions; None: nothing. `use_case` is a tag that
    costs are summed by, and `budget` what the endpoint may cost.
    `monitors` are the checks of what is kept: the defaults when left out, none for an empty list.
    `alerts` are its rules, who is told and what is done; the default rules when left out.
    """

    name: str
    model: str
    environment: str = ""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    placement: Placement = Placement.AUTO
    limits: Limits = Limits()
    sandbox: Sandbox = Sandbox()
    scaling: Scaling | None = None
    residency: Residency = Residency.AUTO
    cache: Cache | None = None
    fallback: Fallback | None = None
    warm_s: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_WARM_S)] = 600.0
    rollout: RolloutPlan | None = None
    secrets: dict[str, SecretRef] = {}
    capture: Capture | None = None
    monitors: tuple[MonitorSpec, ...] | None = None
    use_case: Annotated[str, msgspec.Meta(max_length=63)] = ""
    budget: Budget | None = None
    alerts: AlertPlan | None = None

    @property
    def monitored(self) -> tuple[MonitorSpec, ...]:
        """The monitors that run: the declared ones, else the defaults; none where nothing is kept."""
        if self.capture is None:
            return ()
        return DEFAULTS if self.monitors is None else self.monitors

    @property
    def redacts(self) -> bool:
        """Whether any field may not be written down as it is."""
        return self.capture is not None and bool(self.capture.redact)


class Phase(StrEnum):
    """Where the change of an endpoint stands."""

    STARTING = "starting"
    """A target version is being started and warmed; the active one (if any) serves."""

    RELEASING = "releasing"
    """The target is ready, and a rollout gives it requests step by step; the active one serves."""

    LIVE = "live"
    """The active version serves; no change is under way."""

    FAILED = "failed"
    """The last target could not be started; the active one (if any) still serves."""


class EndpointState(msgspec.Struct, frozen=True, kw_only=True):
    """The durable state of an endpoint.

    `active` serves. `target` is being brought up to replace it. `previous` was replaced last and is
    kept warm until `previous_until`; it stays the rollback target afterwards. `generation` grows
    with every accepted change. `inline` names those of the three versions that run in the gateway:
    settled when a version becomes the target, so that a spec with another placement never moves a
    version that serves. `rollout` is the last one,
    whether it is under way or has ended. `refused` is the version that was given up last: an alias
    that still points at it changes nothing.
    """

    spec: EndpointSpec
    generation: int
    phase: Phase
    active: VersionRef | None = None
    target: VersionRef | None = None
    previous: VersionRef | None = None
    previous_until: datetime | None = None
    message: str = ""
    inline: tuple[VersionRef, ...] = ()
    rollout: Rollout | None = None
    refused: VersionRef | None = None

    @property
    def releasing(self) -> Rollout | None:
        """The rollout whose candidate may get requests now; None in every other phase."""
        return self.rollout if self.phase is Phase.RELEASING else None

    @property
    def under_way(self) -> Rollout | None:
        """The rollout that has not ended, its candidate ready or not."""
        rollout = self.rollout
        return rollout if rollout is not None and rollout.is_under_way else None

    def weights(self) -> dict[VersionRef, int]:
        """The share of requests of each version that gets any, in per cent; they sum to 100."""
        if self.active is None:
            return {}
        rollout = self.releasing
        if rollout is None or self.target is None or rollout.weight_pct == 0:
            return {self.active: 100}
        candidate = rollout.weight_pct
        shares = {self.active: 100 - candidate, self.target: candidate}
        return {version: share for version, share in shares.items() if share}
