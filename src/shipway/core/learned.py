"""What feedback says of the two versions of a rollout, as outcomes that guards and tests can count with."""

from __future__ import annotations

from collections.abc import Iterator

from shipway.core import intervals
from shipway.core.captures import Role
from shipway.core.evidence import Moments
from shipway.core.intervals import Estimate
from shipway.core.performance import Performance, Slice
from shipway.core.rollouts import Rollout
from shipway.core.strategies import ABSOLUTE_ERROR, ACCURACY, FEEDBACK

_SHADOW = Role.SHADOW.name.lower()


def learned(performance: Performance, rollout: Rollout) -> dict[tuple[str, str], Moments]:
    """The moments of each metric of feedback, by metric and version, as far as truth has come.

    Of a shadow's answers the truth counts, and no outcome: those came of what the primary answered.
    Nothing where the versions are of two models: the log tells versions apart by their numbers.
    """
    if rollout.primary.model != rollout.candidate.model:
        return {}
    versions = {one.number: str(one) for one in (rollout.primary, rollout.candidate)}
    found: dict[tuple[str, str], Moments] = {}
    for one in performance.slices:
        if one.version in versions:
            for metric, moments in _metrics_of(one):
                key = metric, versions[one.version]
                found[key] = _added(found.get(key, Moments()), moments)
    return found


def _metrics_of(one: Slice) -> Iterator[tuple[str, Moments]]:
    if one.classification is not None:
        n = sum(score.support for score in one.classification.classes)
        right = float(round(one.classification.accuracy.value * n))
        yield ACCURACY, Moments(n=n, total=right, squares=right)
    if one.regression is not None:
        yield ABSOLUTE_ERROR, _moments(one.regression.mae, one.labelled)
    if one.role != _SHADOW:
        for outcome in one.outcomes:
            yield f"{FEEDBACK}{outcome.metric}", _moments(outcome.mean, outcome.n)


def _moments(mean: Estimate, n: int) -> Moments:
    total = mean.value * n
    squares = intervals.variance(mean, n) * (n - 1) + total * mean.value
    return Moments(n=n, total=total, squares=squares)


def _added(one: Moments, other: Moments) -> Moments:
    return Moments(
        n=one.n + other.n, total=one.total + other.total, squares=one.squares + other.squares
    )
