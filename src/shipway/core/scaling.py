"""How many replicas an endpoint should have: a pure function of its recent load and `now`.

Load is the number of requests inside an endpoint, held ones included, summed over its gateways.
Quick up, slow down: the number grows with the mean load of the last second, and shrinks to what the
highest load of the last `down_after_s` needs. Between the two lies a band in which nothing changes,
so that noise does not make replicas come and go.

Times are seconds of a steady clock, which nobody sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

import msgspec

from shipway.core.endpoints import Scaling

UP_S = 1.0
"""The number grows with the mean load of so many seconds."""

BAND = 0.1
"""A load this share above what the replicas are for is borne; one this share below it is needed
before one is taken away."""

_BUCKETS = 60
"""Older loads are remembered as so many peaks, however long the window is."""

_EPSILON = 1e-9


class Sample(msgspec.Struct, frozen=True):
    """The load from `at_s` until the next sample."""

    at_s: float
    load: float


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint's recent load, oldest sample first in both.

    `recent` holds the last second as it was, `peaks` the time before that, as the highest loads of
    stretches. `since_s` is when watching began. `asked_s` is when a request was last inside, and
    `is_inside` whether one is now.
    """

    since_s: float
    asked_s: float
    is_inside: bool = False
    recent: tuple[Sample, ...] = ()
    peaks: tuple[Sample, ...] = ()

    def noted(self, sample: Sample, *, keep_s: float, asked_s: float, is_inside: bool) -> Window:
        """The window with one more sample, bounded to what decisions over `keep_s` need."""
        everything = (*self.recent, sample)
        # The one before the last second says what the load was when it began.
        begin = sum(1 for one in everything if one.at_s <= sample.at_s - UP_S)
        cut = max(0, begin - 1)
        oldest_s = sample.at_s - keep_s
        bucket_s = max(UP_S, keep_s / _BUCKETS)
        peaks = _bucketed((*self.peaks, *everything[:cut]), bucket_s)
        return msgspec.structs.replace(
            self,
            asked_s=max(self.asked_s, asked_s),
            is_inside=is_inside,
            recent=everything[cut:],
            peaks=tuple(peak for peak in peaks if peak.at_s + bucket_s > oldest_s),
        )

    def mean(self, now_s: float) -> float:
        """The mean load of the last second, as far as it was watched."""
        if not self.recent:
            return 0.0
        begin_s = now_s - UP_S
        ends = (*(one.at_s for one in self.recent[1:]), max(now_s, self.recent[-1].at_s))
        spans = [
            (max(0.0, end_s - max(one.at_s, begin_s)), one.load)
            for one, end_s in zip(self.recent, ends, strict=True)
        ]
        total_s = sum(span_s for span_s, _ in spans)
        if total_s <= 0.0:
            return self.recent[-1].load
        return sum(span_s * load for span_s, load in spans) / total_s

    def peak(self) -> float:
        """The highest load that is remembered."""
        return max((one.load for one in (*self.peaks, *self.recent)), default=0.0)


def _bucketed(samples: Iterable[Sample], bucket_s: float) -> tuple[Sample, ...]:
    peaks: list[Sample] = []
    for one in samples:
        if peaks and one.at_s - peaks[-1].at_s < bucket_s:
            peaks[-1] = Sample(peaks[-1].at_s, max(peaks[-1].load, one.load))
        else:
            peaks.append(one)
    return tuple(peaks)


def decide(scaling: Scaling, current: int, window: Window, now_s: float) -> int:
    """How many replicas there should be, from `min_replicas` to `max_replicas`.

    With 8 requests per replica, a mean load of 20 on 2 replicas gives 3; on those 3, nothing changes
    while it stays below 26.4, nor until the highest load of the last `down_after_s` is 14.4 or less.
    0 only with `min_replicas: 0`, when nobody has asked for `idle_s`.
    """
    mean, peak = window.mean(now_s), window.peak()
    if _sleeps(scaling, current, window, now_s):
        return 0
    wanted = max(1, current)
    if mean > wanted * scaling.target_concurrency * (1 + BAND):
        wanted = _needed(mean, scaling.target_concurrency)
    elif now_s - window.since_s >= scaling.down_after_s:
        wanted = min(wanted, max(1, _needed(peak, scaling.target_concurrency * (1 - BAND))))
    return max(scaling.min_replicas, min(scaling.max_replicas, wanted))


def begin_with(scaling: Scaling | None, replicas: int) -> int:
    """How many replicas a version has before there is any load: `replicas`, within the bounds."""
    if scaling is None:
        return replicas
    return max(1, scaling.min_replicas, min(scaling.max_replicas, replicas))


def _sleeps(scaling: Scaling, current: int, window: Window, now_s: float) -> bool:
    """Whether there is to be none: nobody is inside, and none runs or nobody asked for long."""
    if scaling.min_replicas > 0 or window.is_inside:
        return False
    return current == 0 or now_s - max(window.asked_s, window.since_s) >= scaling.idle_s


def _needed(load: float, per_replica: float) -> int:
    return ceil(load / per_replica - _EPSILON)
