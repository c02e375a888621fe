"""Whether an hour has as many requests as its like had: the same hour of the week, or of the day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from math import exp, log, log1p, pi, sqrt
from statistics import median

import msgspec

from shipway.core.drift.report import Verdict
from shipway.core.drift.significance import student_p
from shipway.core.quality import Check, QualityFinding, QualityRules

LEAST_LIKE = 4
"""How many hours of the same kind a median needs."""

LEAST_HOURS = 48
FREEDOM = 6.0
"""Degrees of freedom of the distribution that a surprise is measured by: traffic has heavy tails."""

MAD_OF_NORMAL = 1.4826
"""A normal distribution's standard deviation in median absolute deviations."""


class Hour(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests came in the hour that began at `at`."""

    at: datetime
    requests: int


def volume(
    now: Hour, history: Sequence[Hour], *, rules: QualityRules | None = None
) -> QualityFinding:
    """Whether the requests of an hour are many times more or fewer than usual.

    The logarithm of the count is compared with the median of the same hour of the week, or, with fewer than
    four weeks of history, of the same hour of the day. The deviation is measured by the median absolute
    deviation of all hours from their own medians, but at least by the noise of counting (1 / sqrt n),
    and its chance is Student's with six degrees of freedom, as traffic has heavier tails than the
    normal distribution. Hours without requests must be in the history.
    """
    rules = rules or QualityRules()
    for kind in (_hour_of_week, _hour_of_day):
        like = [one.requests for one in history if kind(one.at) == kind(now.at)]
        if len(like) >= LEAST_LIKE and len(history) >= LEAST_HOURS:
            return _judged(now, like, _spread(history, kind), rules)
    return QualityFinding(
        check=Check.VOLUME,
        column="",
        verdict=Verdict.TOO_LITTLE_DATA,
        words=f"{len(history)} hours of history; it needs four days",
    )


def _judged(now: Hour, like: Sequence[int], spread: float, rules: QualityRules) -> QualityFinding:
    usual = median(map(log1p, like))
    away = log1p(now.requests) - usual
    # A median of n values is itself uncertain, by pi / 2n of their variance.
    size = sqrt(max(spread**2, 1 / (1 + exp(usual))) * (1 + pi / (2 * len(like))))
    p = student_p(away / size, FREEDOM)
    is_odd = abs(away) >= log(rules.factor) and p <= rules.alpha
    return QualityFinding(
        check=Check.VOLUME,
        column="",
        verdict=Verdict.DRIFTED if is_odd else Verdict.STEADY,
        words=f"{now.requests} requests in an hour that usually has {exp(usual) - 1:.0f}",
        effect=exp(abs(away)),
        threshold=rules.factor,
        p=p,
        alpha=rules.alpha,
        numbers={"before": exp(usual) - 1, "now": float(now.requests), "z": away / size},
    )


def _spread(history: Sequence[Hour], kind: Callable[[datetime], int]) -> float:
    """The typical deviation of an hour from the median of its like, as a standard deviation."""
    groups: dict[int, list[float]] = {}
    for one in history:
        groups.setdefault(kind(one.at), []).append(log1p(one.requests))
    away = [abs(each - median(group)) for group in groups.values() for each in group]
    return MAD_OF_NORMAL * median(away)


def _hour_of_week(at: datetime) -> int:
    return at.weekday() * 24 + at.hour


def _hour_of_day(at: datetime) -> int:
    return at.hour
