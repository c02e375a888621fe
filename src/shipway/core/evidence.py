"""What gateways saw of the two versions of a rollout, in a form that adds up exactly.

A gateway counts for itself, anew at each step of a rollout, and reports the whole each time; control
adds up the last report of each gateway. So nothing is counted twice, and nothing is lost but what a
gateway that dies has not reported yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, exp, log
from typing import Any

import msgspec

GAMMA = 1.05
"""Values in one bucket differ by 5 % at most."""

_LOG_GAMMA = log(GAMMA)
ZERO = 0
"""The bucket of what is too small to tell from zero."""

SMALLEST = 1e-9
LARGEST = 1e12
_OFFSET = 1 - ceil(log(SMALLEST) / _LOG_GAMMA)

MOST_LABELS = 100
"""Different labels counted; further ones are counted as `OTHER`."""

OTHER = "(other)"
MOST_PAIRS = 20
"""Pairs kept of those that differ most."""


def bucket_of(value: float) -> int:
    """The bucket of a number: 0 near zero, growing with the size, negative for negative numbers.

    After Masson, Rim and Lee, "DDSketch" (VLDB 2019): bucket `k` holds values up to `edge(k)`, each
    edge 1.05 times the one before. NaN counts as zero.
    """
    size = abs(value)
    if not size > SMALLEST:
        return ZERO
    index = max(1, ceil(log(min(size, LARGEST)) / _LOG_GAMMA) + _OFFSET)
    return index if value > 0 else -index


def edge(bucket: int) -> float:
    """The end of a bucket that is further from zero."""
    if bucket == ZERO:
        return 0.0
    size = exp((abs(bucket) - _OFFSET) * _LOG_GAMMA)
    return size if bucket > 0 else -size


Buckets = dict[int, int]
"""How many values lie in each bucket."""


class Account(msgspec.Struct, kw_only=True):
    """What was seen of one version. Mutable, for the way of a request; added up by `merged`.

    `answered` were answered by it; `failed` raised, were lost with their replica, found none ready or
    came too late (also where the primary then answered); `rejected` were refused as the caller's fault
    though the primary took them; `shed` were refused for load and say nothing of the version.
    `latency` buckets the seconds of the answered, `slowest` those that came in the slowest seconds (see
    `shipway.core.stalls`). `labels` and `scores` describe the first row of each
    answer: its label, and its number (a probability, a regression's value).
    """

    answered: int = 0
    failed: int = 0
    rejected: int = 0
    shed: int = 0
    latency: Buckets = {}
    slowest: Buckets = {}
    labels: dict[str, int] = {}
    scores: Buckets = {}
    last_error: str = ""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One request that both versions answered. `distance` orders pairs: 1 and more for another label.

    `request_id` is the caller's. `inputs` and the outputs are the first row, as JSON values.
    """

    distance: float
    request_id: str
    inputs: dict[str, Any]
    primary: dict[str, Any]
    candidate: dict[str, Any]


class Pairs(msgspec.Struct, kw_only=True):
    """What was seen of requests that were copied to the candidate.

    `compared` were answered by both, of which `agreed` are equal within the tolerance. `dropped` were
    not copied, as the candidate was behind. `distances` buckets the relative differences of scores,
    `delays` the candidate's seconds less the primary's. `worst` are those that differ most.
    """

    compared: int = 0
    agreed: int = 0
    dropped: int = 0
    distances: Buckets = {}
    delays: Buckets = {}
    worst: list[Pair] = []


class TrialReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway saw in one step (`epoch`) of a rollout, from the step's begin on."""

    rollout: str
    epoch: int
    primary: Account
    candidate: Account
    pairs: Pairs = msgspec.field(default_factory=Pairs)


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes of one metric and version: how many, their sum, and the sum of their squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Their mean; 0 of none."""
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Their variance (n - 1 below); 0 of fewer than two."""
        if self.n < 2:
            return 0.0
        return max(0.0, (self.squares - self.total * self.total / self.n) / (self.n - 1))


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of one metric for both versions."""

    primary: Moments = Moments()
    candidate: Moments = Moments()


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that a decision about a rollout may look at.

    `step` is what was seen in the present step, `before` in the one before it. `outcomes` are by
    metric, over the whole rollout. `exits` counts the ends of the candidate's replicas since the
    rollout began. `gateways` is how many live gateways report on the present step, of `expected`.
    `elapsed_s` is how long the step has lasted. `problem` says why the candidate cannot answer now;
    empty while it can. `problem_s` is how long that has been so. `recent` is what was seen in the
    present window of a long step, the `window`-th (see `shipway.core.windows`).
    """

    step: TrialReport
    elapsed_s: float
    before: TrialReport | None = None
    outcomes: Mapping[str, Outcomes] = {}
    exits: int = 0
    gateways: int = 1
    expected: int = 1
    problem: str = ""
    problem_s: float = 0.0
    recent: TrialReport | None = None
    window: int = 1


def merged(accounts: Iterable[Account]) -> Account:
    """The sum of accounts."""
    sum_ = Account(latency={}, slowest={}, labels={}, scores={})
    for one in accounts:
        sum_.answered += one.answered
        sum_.failed += one.failed
        sum_.rejected += one.rejected
        sum_.shed += one.shed
        sum_.last_error = one.last_error or sum_.last_error
        _add(sum_.latency, one.latency)
        _add(sum_.slowest, one.slowest)
        _add(sum_.scores, one.scores)
        for label, count in one.labels.items():
            count_label(sum_.labels, label, count)
    return sum_


def merged_pairs(several: Iterable[Pairs]) -> Pairs:
    """The sum of what was seen of pairs, with the worst of all."""
    sum_ = Pairs(distances={}, delays={}, worst=[])
    for one in several:
        sum_.compared += one.compared
        sum_.agreed += one.agreed
        sum_.dropped += one.dropped
        _add(sum_.distances, one.distances)
        _add(sum_.delays, one.delays)
        sum_.worst = sorted((*sum_.worst, *one.worst), key=_distance, reverse=True)[:MOST_PAIRS]
    return sum_


def merged_reports(reports: Iterable[TrialReport], *, rollout: str, epoch: int) -> TrialReport:
    """The sum of the reports on that step; others are left out."""
    mine = [one for one in reports if (one.rollout, one.epoch) == (rollout, epoch)]
    return TrialReport(
        rollout=rollout,
        epoch=epoch,
        primary=merged(one.primary for one in mine),
        candidate=merged(one.candidate for one in mine),
        pairs=merged_pairs(one.pairs for one in mine),
    )


def count_label(labels: dict[str, int], label: str, count: int = 1) -> None:
    """Counts a label; as `OTHER` when there are too many different ones."""
    if label not in labels and len(labels) >= MOST_LABELS:
        label = OTHER
    labels[label] = labels.get(label, 0) + count


def quantile(buckets: Mapping[int, int], share: float) -> float | None:
    """The value below which that share of the counted lies, within 5 %; None of nothing."""
    wanted = share * sum(buckets.values())
    if not buckets:
        return None
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= wanted:
            return edge(bucket)
    return edge(max(buckets))


def _add(sum_: Buckets, other: Mapping[int, int]) -> None:
    for bucket, count in other.items():
        sum_[bucket] = sum_.get(bucket, 0) + count


def _distance(pair: Pair) -> float:
    return pair.distance
