"""What a key, a project or an endpoint may use: a rate with a burst, concurrency, a day's quota and budget.

The rate is a leaky bucket as a meter (ITU-T I.371, continuous-state leaky bucket): what was spent
drains at `per_s`, and a request adds 1 while no more than the burst is inside. So any window of `t`
seconds has at most `burst + per_s * t` of them. Worked example: 10 per second, burst 20. 20 requests
at once are let in, and the 21st may come again after 0.1 s.

Days are those of UTC. A clock that goes back grants nothing anew and locks nobody out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

from shipway.core.errors import RateLimited

DAY_S = 86_400
ROUNDING = 1e-6
"""The share of a request by which sums of times may be off: who keeps the rate exactly is let in."""

BUSY_RETRY_S = 1.0
"""When to come again while too many are under way: nobody knows when one of them ends."""


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests per second, and how many may come at once."""

    per_s: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    """Requests per second in the long run; 0.5 is one each two seconds."""

    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Requests at once after a pause; `per_s` rounded up when left out."""

    @property
    def capacity(self) -> int:
        """The burst, given or not."""
        return math.ceil(self.per_s) if self.burst is None else self.burst


class CallerLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of a key, a project or an endpoint. None bounds nothing."""

    rate: RateLimit | None = None
    """Requests per second, with a burst."""

    max_concurrency: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Requests under way at once."""

    max_body_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Larger bodies get 413, where the endpoint would take them."""

    daily_requests: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Requests per day, from midnight to midnight UTC."""

    daily_budget: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Units per day; a request takes the `limits.cost` of its endpoint."""

    @property
    def bounds_anything(self) -> bool:
        """Whether any of them is given."""
        return self != CallerLimits()


class Whose(StrEnum):
    """Whom limits bound."""

    KEY = "key"
    PROJECT = "project"
    ENDPOINT = "endpoint"


class Kind(StrEnum):
    """Which of the limits; the words are those of the settings."""

    RATE = "rate"
    CONCURRENCY = "max_concurrency"
    REQUESTS = "daily_requests"
    BUDGET = "daily_budget"


class Use(msgspec.Struct, frozen=True):
    """What was used. `spent` is of the burst as of `at`, `requests` and `units` are those of `day`.

    `at` is by any clock that counts seconds, `day` the number of a UTC day since 1970. `inside` are
    the requests under way.
    """

    spent: float = 0.0
    at: float = 0.0
    day: int = 0
    requests: int = 0
    units: int = 0
    inside: int = 0


class Refusal(NamedTuple):
    """Which limit does not let a request in, and when it may come again."""

    kind: Kind
    wait_s: float


class Standing(NamedTuple):
    """What is left of a limit: `remaining` of `limit` requests, all of them again after `reset_s`."""

    limit: int
    remaining: int
    reset_s: float


class Decision(NamedTuple):
    """Whether a request is let in, and what was used then. `refused` is a place in the sequence asked for.

    `standing` is that of the limit nearest to its end; None when only concurrency is bounded.
    """

    uses: tuple[Use, ...]
    standing: Standing | None
    refused: int | None = None
    refusal: Refusal | None = None


def settled(limits: CallerLimits, use: Use, *, now: float, wall_s: float) -> Use:
    """The use as of now: the bucket has drained, and a new day has begun with nothing.

    A clock that went back drains nothing. One that went back over midnight is waited for; one that was
    wrong by more takes its count along.
    """
    spent, today = use.spent, int(wall_s // DAY_S)
    if limits.rate is not None and spent:
        spent = max(0.0, spent - max(0.0, now - use.at) * limits.rate.per_s)
    if today > use.day:
        return Use(spent, now, today, 0, 0, use.inside)
    day = use.day if use.day == today + 1 else today
    return Use(spent, now, day, use.requests, use.units, use.inside)


def larger(one: Use, other: Use) -> Use:
    """What was used at least, by two settled counts of the same thing; the clock is that of the first."""
    spent = max(one.spent, other.spent)
    if one.day != other.day:
        day = one if one.day > other.day else other
        return Use(spent, one.at, day.day, day.requests, day.units, one.inside)
    requests, units = max(one.requests, other.requests), max(one.units, other.units)
    return Use(spent, one.at, one.day, requests, units, one.inside)


def refusal_of(limits: CallerLimits, use: Use, *, cost: int, wall_s: float) -> Refusal | None:
    """The limit that does not let a request in, by a settled use; the day's before the rate."""
    midnight_s = DAY_S - wall_s % DAY_S
    if limits.daily_requests is not None and use.requests >= limits.daily_requests:
        return Refusal(Kind.REQUESTS, midnight_s)
    if limits.daily_budget is not None and use.units + cost > limits.daily_budget:
        return Refusal(Kind.BUDGET, midnight_s)
    if limits.rate is not None:
        over = use.spent + 1 - limits.rate.capacity
        if over > ROUNDING:
            return Refusal(Kind.RATE, over / limits.rate.per_s)
    if limits.max_concurrency is not None and use.inside >= limits.max_concurrency:
        return Refusal(Kind.CONCURRENCY, BUSY_RETRY_S)
    return None


def charged(limits: CallerLimits, use: Use, *, cost: int) -> Use:
    """The use with one request more."""
    spent = use.spent + 1 if limits.rate is not None else 0.0
    return Use(spent, use.at, use.day, use.requests + 1, use.units + cost, use.inside + 1)


def decide(
    asked: Sequence[tuple[CallerLimits, Use]], *, cost: int, now: float, wall_s: float
) -> Decision:
    """Whether a request is let in by all of these limits. It is charged to all of them, or to none.

    `now` is by the clock of the uses, `wall_s` the time since 1970.
    """
    uses = [settled(limits, use, now=now, wall_s=wall_s) for limits, use in asked]
    limits = [limits for limits, _ in asked]
    return judged(limits, uses, cost=cost, wall_s=wall_s)


def judged(
    limits: Sequence[CallerLimits], uses: Sequence[Use], *, cost: int, wall_s: float
) -> Decision:
    """The decision by uses that are settled. Of several refusals, the one that takes longest is told."""
    refused: int | None = None
    refusal: Refusal | None = None
    for place, (own, use) in enumerate(zip(limits, uses, strict=True)):
        found = refusal_of(own, use, cost=cost, wall_s=wall_s)
        if found is not None and (refusal is None or found.wait_s > refusal.wait_s):
            refused, refusal = place, found
    if refusal is None:
        uses = [charged(own, use, cost=cost) for own, use in zip(limits, uses, strict=True)]
    standing = nearest(limits, uses, cost=cost, wall_s=wall_s)
    return Decision(tuple(uses), standing, refused, refusal)


def nearest(
    limits: Sequence[CallerLimits], uses: Sequence[Use], *, cost: int, wall_s: float
) -> Standing | None:
    """The standing of the limit that lets fewest requests in from here; None without one that counts."""
    midnight_s = DAY_S - wall_s % DAY_S
    found: tuple[int, int, float] | None = None
    for own, use in zip(limits, uses, strict=True):
        rate, requests, budget = own.rate, own.daily_requests, own.daily_budget
        if rate is not None:
            left = int(rate.capacity - use.spent + ROUNDING)
            if found is None or left < found[0]:
                found = left, rate.capacity, use.spent / rate.per_s
        if requests is not None:
            left = requests - use.requests
            if found is None or left < found[0]:
                found = left, requests, midnight_s
        if budget is not None and cost:
            left = (budget - use.units) // cost
            if found is None or left < found[0]:
                found = left, budget // cost, midnight_s
    return None if found is None else Standing(found[1], max(0, found[0]), found[2])


def rate_limited(whose: Whose, name: str, limits: CallerLimits, refusal: Refusal) -> RateLimited:
    """The error that tells a caller whose limit it was, which one, and when to come again."""
    return RateLimited(
        f"{whose.capitalize()} `{name}` {_fact(limits, refusal.kind)}.",
        next_step=f"Retry after the stated time, or raise its `{refusal.kind}`.",
        limit=str(refusal.kind),
        whose=str(whose),
        name=name,
        retry_after_s=round(refusal.wait_s, 3),
    )


def _fact(limits: CallerLimits, kind: Kind) -> str:
    match kind:
        case Kind.RATE:
            rate = limits.rate or RateLimit(per_s=1)
            return f"is over its rate of {rate.per_s:g} requests per second (burst {rate.capacity})"
        case Kind.CONCURRENCY:
            return f"has {limits.max_concurrency} requests under way, as many as it may"
        case Kind.REQUESTS:
            return f"has had its {limits.daily_requests} requests of today (UTC)"
        case Kind.BUDGET:
            return f"has too little left of its {limits.daily_budget} units of today (UTC)"
