"""How an endpoint gets from one version to another: the plan that people declare under `rollout`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec

Share = Annotated[float, msgspec.Meta(gt=0, le=100)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=90 * 24 * 3600)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=100)]


MOST_METRIC_LENGTH = 63
"""Names of metrics are no longer."""


FEEDBACK = "feedback:"
"""Metrics that begin so are not posted: feedback on what was captured says them."""

ACCURACY = f"{FEEDBACK}accuracy"
"""The share of labels that were right."""

ABSOLUTE_ERROR = f"{FEEDBACK}absolute_error"
"""The mean size of the error of numbers."""


class Source(StrEnum):
    """Where in a request the key of a caller is."""

    HEADER = "header"
    """A header; over gRPC, a metadata entry."""

    CLAIM = "claim"
    """A claim of the bearer token. It is read, not verified: it decides nothing but the version."""

    JSON_PATH = "json_path"
    """A value in a JSON body, by its path (`parameters.user.id`)."""

    INPUT = "input"
    """The first row of an input of the model."""

    KEY = "key"
    """The caller's API key, as it is sent (`Authorization` or `X-API-Key`)."""


class Sticky(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same key gets the same version. A request without the key is assigned by itself."""

    by: Source = Source.HEADER
    """Where the key is."""

    name: str = "x-shipway-user"
    """The header, claim, path or input; not used with `key`."""


class Segment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests take part: those whose value is one of these. Others get the primary."""

    by: Source = Source.HEADER
    """Where the value is."""

    name: str
    """The header, claim, path or input."""

    values: tuple[str, ...]
    """The values that take part."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One weight of a canary."""

    weight_pct: Weight
    """The candidate's share of requests."""

    hold_s: Seconds | None = None
    """It is held for so long; the canary's `hold_s` when left out."""

    hold_requests: Count | None = None
    """And until the candidate has answered so many; the canary's `hold_requests` when left out."""

    pause: bool = False
    """A person must let it go on from here."""


STEPS = (5, 10, 25, 50, 100)


class Canary(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="strategy",
    tag="canary",
):
    """The candidate gets a growing share of the requests, watched by the guards at each step."""

    steps: tuple[Weight | Step, ...] = STEPS
    """The shares; 100 is the end, and added where it is missing."""

    hold_s: Seconds = 60.0
    """Each step is held for so long at least."""

    hold_requests: Count = 0
    """And until the candidate has answered so many in it."""

    sticky: Sticky | None = None
    """Which caller gets which version; each request by itself when left out."""

    pause: bool = False
    """A person must let it go on at the end of the last step before 100."""


class BlueGreen(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="strategy",
    tag="blue_green",
):
    """A full warm copy beside the live one, then all requests at once, and a way back at once."""

    preview_s: Seconds = 60.0
    """The copy waits for so long, reachable at its version's own address. What the primary does meanwhile
    is the measure for the guards once the copy has all requests."""

    pause: bool = False
    """A person must let it switch."""

    bake_s: Seconds = 300.0
    """After the switch the guards watch for so long, and the old copy stays warm."""


class Shadow(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="strategy",
    tag="shadow",
):
    """The candidate gets copies of live requests; callers neither see nor wait for it."""

    share_pct: Share = 100.0
    """The share of requests that are copied."""

    hold_s: Seconds = 300.0
    """It lasts so long at least."""

    hold_requests: Count = 0
    """And until so many pairs were compared."""

    pause: bool = False
    """A person must let it go on afterwards."""


class Goal(StrEnum):
    """Which way a metric is better."""

    INCREASE = "increase"
    DECREASE = "decrease"


class Ab(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="strategy",
    tag="ab",
):
    """Two versions side by side, decided by a metric that is posted as outcomes, or that feedback says."""

    metric: str
    """The outcome that decides, by its name; as for guards, `feedback:NAME` is one of feedback."""

    goal: Goal = Goal.INCREASE
    """Which way it is better."""

    weight_pct: Annotated[int, msgspec.Meta(ge=1, le=99)] = 50
    """The candidate's share of requests."""

    sticky: Sticky = Sticky()
    """Which caller gets which version."""

    segments: tuple[Segment, ...] = ()
    """Only requests that fit all of these take part."""

    min_samples: Annotated[int, msgspec.Meta(ge=2)] = 100
    """No verdict before each version has so many outcomes."""

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] = 0.05
    """The chance of a verdict where there is no difference, however often one looks."""

    max_s: Seconds = 14 * 24 * 3600.0
    """Without a verdict by then it is paused as inconclusive."""

    pause: bool = False
    """A person must promote the winner."""


Stage: TypeAlias = Canary | BlueGreen | Shadow | Ab


class ErrorRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The candidate fails no more often than the primary."""

    max_increase_pct: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    """So many percentage points more than the primary are let pass."""

    max_pct: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    """An absolute bound, whatever the primary does."""


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The candidate is no slower than the primary."""

    quantile: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.95
    """Which quantile is compared."""

    max_ratio: Annotated[float, msgspec.Meta(ge=1)] | None = 1.5
    """The candidate's may be so many times the primary's, and at least 5 ms more."""

    max_ms: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """An absolute bound, whatever the primary does."""


class Shift(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The candidate's predictions are distributed as the primary's are."""

    max_distance: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.2
    """The largest difference let pass: total variation of labels, Kolmogorov-Smirnov of scores."""


class Rejections(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The candidate's signature takes what the primary's takes."""

    max_pct: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    """The share of requests that only the candidate refuses."""


class Disagreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The candidate gives the same answers to the same requests; needs `shadow`."""

    max_pct: Annotated[float, msgspec.Meta(ge=0, le=100)] = 10.0
    """The share of pairs with another label, or a score that is off by more than `tolerance`."""

    tolerance: Annotated[float, msgspec.Meta(ge=0)] = 0.05
    """Relative difference of scores that counts as agreement."""


class Crashes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The candidate's replicas stay up."""

    max_exits: Count = 1
    """So many ends of its processes are let pass."""


class MetricGuard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric that is posted as outcomes, or that feedback says: accuracy, revenue, complaints."""

    metric: str
    """Its name. `feedback:accuracy` is the share of right labels, `feedback:absolute_error` the mean error of
    numbers, `feedback:NAME` an outcome in feedback; these need `capture`."""

    goal: Goal = Goal.INCREASE
    """Which way it is better."""

    max_loss: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """The mean may be so much worse than the primary's, in the metric's own unit."""

    bound: float | None = None
    """An absolute bound of the mean, whatever the primary does."""

    min_samples: Annotated[int, msgspec.Meta(ge=2)] = 100
    """No verdict before each version has so many outcomes."""

    required: bool = True
    """Without outcomes there is no promotion; with `false` the guard only watches."""


class Guards(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What rolls a candidate back. Each can be switched off with `null`."""

    error_rate: ErrorRate | None = ErrorRate()
    latency: Latency | None = Latency()
    shift: Shift | None = Shift()
    rejections: Rejections | None = Rejections()
    disagreement: Disagreement | None = Disagreement()
    crashes: Crashes | None = Crashes()
    metrics: tuple[MetricGuard, ...] = ()

    min_requests: Annotated[int, msgspec.Meta(ge=1)] = 100
    """No guard lets a step pass before the candidate has answered so many."""

    alpha: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] = 0.01
    """The chance, over a whole rollout, that guards roll an equal candidate back."""


class Conflict(StrEnum):
    """What a second rollout does while the first is under way."""

    REFUSE = "refuse"
    """It is refused."""

    SUPERSEDE = "supersede"
    """The first is given up, and the second begins."""


class RolloutPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this endpoint's versions change, and what undoes a change."""

    stages: tuple[Stage, ...] = (Canary(),)
    """One after the other; the candidate is promoted after the last."""

    guards: Guards = Guards()
    """What rolls the candidate back."""

    success: str = ""
    """What this change is for, in words; kept on record with it."""

    patience_s: Seconds = 3600.0
    """A step whose guards lack evidence after so long is paused as inconclusive."""

    on_conflict: Conflict = Conflict.REFUSE
    """What a second rollout does while this one is under way."""

    @property
    def feedback_metrics(self) -> frozenset[str]:
        """The metrics that it asks feedback for."""
        tests = (stage.metric for stage in self.stages if isinstance(stage, Ab))
        named = {*tests, *(guard.metric for guard in self.guards.metrics)}
        return frozenset(name for name in named if name.startswith(FEEDBACK))


def steps_of(canary: Canary) -> tuple[Step, ...]:
    """The steps below 100, each with its own hold; `pause` of the canary is that of the last."""
    steps = []
    for one in canary.steps:
        step = one if isinstance(one, Step) else Step(weight_pct=one)
        if step.weight_pct < 100:
            hold_s = canary.hold_s if step.hold_s is None else step.hold_s
            count = canary.hold_requests if step.hold_requests is None else step.hold_requests
            steps.append(msgspec.structs.replace(step, hold_s=hold_s, hold_requests=count))
    if canary.pause and steps:
        steps[-1] = msgspec.structs.replace(steps[-1], pause=True)
    return tuple(steps)
