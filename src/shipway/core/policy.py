"""What an environment asks of a version before it may serve there: the policy that people declare."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

DAY_TIME = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
"""A time of day, `00:00` to `24:00`."""

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
DayTime = Annotated[str, msgspec.Meta(pattern=DAY_TIME)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0)]


class SliceOf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows whose column has that value."""

    column: Name
    """The column."""

    value: Name
    """Its value, as text."""


class EvaluationCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric of the newest evaluation that fits."""

    metric: Name
    """The metric, as `shipway evaluate` names it."""

    at_least: float | None = None
    """Lower values are refused."""

    at_most: float | None = None
    """Higher values are refused."""

    data: Name | None = None
    """Only evaluations on this file count: its name or, surer, its SHA-256; any when left out."""

    slice: SliceOf | None = None
    """The metric over these rows; over all when left out."""

    max_age_days: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Older evaluations do not count."""


class LatencyCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on the newest latency profile that was stored with an evaluation."""

    p95_ms: Milliseconds | None = None
    """The largest 95th percentile let pass."""

    p99_ms: Milliseconds | None = None
    """The largest 99th percentile let pass."""


class Artifacts(StrEnum):
    """What a version's bytes must be; each includes what the ones before it ask, but for `signed`."""

    ANY = "any"
    """Whatever could be registered."""

    SCANNED = "scanned"
    """Scanned, nothing found, and no Python code."""

    SAFE_FORMATS_ONLY = "safe-formats-only"
    """Scanned, nothing found, and served from data: ONNX, or XGBoost's and LightGBM's own files."""

    SIGNED = "signed"
    """Signed by one of the `signers`, whatever it is."""


class Signer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody whose signature counts."""

    name: Name
    """Who that is."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
    """Their public key in PEM, Ed25519 or P-256."""


class Checks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be known of a version before it is promoted."""

    evaluations: tuple[EvaluationCheck, ...] = ()
    """Metrics on held-out data."""

    latency: LatencyCheck | None = None
    """Latency under load."""

    parity: bool = False
    """The ONNX form answers as the original does; a model that has none is refused."""

    compatible_signature: bool = False
    """It takes the inputs and gives the outputs of the version of its model that is live here."""

    not_worse_than_live: bool = False
    """The newest evaluation against each live version calls no metric `worse`."""

    artifacts: Artifacts = Artifacts.ANY
    """What the bytes must be, below; asked again at every change, and signatures at every load."""

    signers: tuple[Signer, ...] = ()
    """Whose signature the bytes must have, one of them, whatever `artifacts` says."""


class Approvals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who must agree. A rejection by anybody who may review blocks until that person approves."""

    required: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """So many different people."""

    by: tuple[Name, ...] = ()
    """Whose word counts; everybody's when left out."""

    exclude_author: bool = True
    """The approval of who registered the version does not count."""


class Weekday(StrEnum):
    """A day of the week, of UTC."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class Freeze(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"since": "from", "until": "to"},
):
    """A time in which nothing is promoted or deployed; either `start` and `end`, or `days`.

    It never blocks a rollback, nor giving a rollout up.
    """

    start: Instant | None = None
    """When it begins, with a time zone."""

    end: Instant | None = None
    """When it ends."""

    days: tuple[Weekday, ...] = ()
    """Every week on these days."""

    since: DayTime = "00:00"
    """On each of the days from then, UTC."""

    until: DayTime = "24:00"
    """To then, UTC; on the next day when that is not later."""

    reason: str = ""
    """Why, for the people who are refused."""


class AuditKeeping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the audit record stays at hand."""

    keep_days: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The environment's events are archived after so many days, and not before; never when left out."""


class AllowedStrategy(StrEnum):
    """A way for one version to replace another."""

    NONE = "none"
    """All at once."""

    CANARY = "canary"
    BLUE_GREEN = "blue_green"
    SHADOW = "shadow"
    AB = "ab"


class EnvironmentPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person declares about an environment, in YAML or through the API."""

    name: str
    """The environment: 1 to 63 of `a-z 0-9 . _ -`."""

    checks: Checks = Checks()
    """What must be measured, below."""

    approvals: Approvals = Approvals()
    """Who must agree, below."""

    freeze: tuple[Freeze, ...] = ()
    """When nothing changes, below."""

    allowed_strategies: tuple[AllowedStrategy, ...] = ()
    """How versions may change here: each stage of the plan must be named; any when left out."""

    from_environment: str | None = None
    """The version must have been promoted to this one before."""

    audit: AuditKeeping = AuditKeeping()
    """How long the audit record stays at hand, below."""


class DeclaredPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as it is kept; `generation` grows from 1 with every change."""

    policy: EnvironmentPolicy
    generation: int
