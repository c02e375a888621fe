"""Guards and tests on outcomes that callers post: accuracy, revenue, complaints."""

from __future__ import annotations

from math import log, sqrt

import msgspec

from shipway.core.evidence import Evidence, Moments, Outcomes
from shipway.core.findings import (
    Finding,
    Setting,
    Verdict,
    e_value,
    pct,
    seen_of,
    share_of,
    verdict_of,
    worst,
)
from shipway.core.sequential import SCALE, half_width, log_mismatch, log_nonzero
from shipway.core.strategies import Ab, Goal, MetricGuard

MISMATCH_ALPHA = 1e-3
"""The chance that a right split is called wrong, however often one looks."""

MISMATCH_TOLERANCE = 0.1
"""A split may be off by so much of its smaller side, as some callers send more than others."""


LARGEST = 1e60
"""Sums of outcomes beyond this are no measurement; the formulas hold up to it."""


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """By how much a mean is better than another, or than a bound; negative when it is worse.

    `variance` is of the gain's estimate, never smaller than if there were none; `scale` is the size
    of gain that is looked for.
    """

    value: float
    variance: float
    scale: float

    @property
    def log_e(self) -> float:
        """The log e-value against "there is no gain and no loss"."""
        return log_nonzero(self.value, self.variance, self.scale)


def gain_of(outcomes: Outcomes, goal: Goal) -> Gain:
    """The candidate's over the primary; both need outcomes.

    With means 0.7 and 0.5 of 100 outcomes each that are 0 or 1: 0.2, with a variance of 0.0048
    (the pooled variance 0.2412 times 2 / 100).
    """
    mine, primary = outcomes.candidate, outcomes.primary
    count, difference = mine.n + primary.n, mine.mean - primary.mean
    between = mine.n * primary.n / count * difference**2
    within = mine.variance * (mine.n - 1) + primary.variance * (primary.n - 1)
    pooled = (within + between) / (count - 1)
    apart = mine.variance / mine.n + primary.variance / primary.n
    return Gain(
        value=difference if goal is Goal.INCREASE else -difference,
        variance=max(apart, pooled * (1 / mine.n + 1 / primary.n)),
        scale=SCALE * sqrt(pooled),
    )


def gain_over(bound: float, moments: Moments, goal: Goal) -> Gain:
    """Over an absolute bound; variance is taken about the bound."""
    difference = moments.mean - bound
    spread = moments.variance + difference**2
    return Gain(
        value=difference if goal is Goal.INCREASE else -difference,
        variance=spread / moments.n,
        scale=SCALE * sqrt(spread),
    )


def metric(
    guard: MetricGuard, setting: Setting, outcomes: Outcomes, alpha: float
) -> tuple[Finding, ...]:
    """Whether the candidate's outcomes are worse than they may be.

    Outcomes are those of the whole rollout. Too few of them keep the candidate from going on where
    they are required and can come: its answers reach somebody, or it would be promoted next.
    """
    mine, primary = outcomes.candidate, outcomes.primary
    if not _is_measurable(outcomes):
        return (_unmeasurable(_name(guard), guard.metric, outcomes),)
    is_seen, is_beside = mine.n >= guard.min_samples, primary.n >= guard.min_samples
    look_alpha = alpha if guard.bound is None else alpha / 2
    tests = []
    if is_seen and is_beside:
        tests.append(_against_primary(guard, outcomes, look_alpha))
    if is_seen and guard.bound is not None:
        tests.append(_against_bound(guard, guard.bound, mine, look_alpha))
    is_due = guard.required and (setting.weight_pct > 0 or setting.is_last)
    is_lacking = not is_seen or (setting.has_primary and not is_beside)
    if is_due and is_lacking:
        tests.append(_lacking(guard, outcomes))
    return worst(tests)


def ab(test: Ab, evidence: Evidence) -> Finding:
    """The verdict of an A/B step: pass when the candidate is better, fail when it is worse."""
    outcomes = evidence.outcomes.get(test.metric, Outcomes())
    if not _is_measurable(outcomes):
        return _unmeasurable("ab", test.metric, outcomes)
    mismatch = _mismatch(test, evidence)
    if mismatch is not None:
        return mismatch
    least = min(outcomes.candidate.n, outcomes.primary.n)
    if least < test.min_samples:
        counted = f"{outcomes.candidate.n:,} outcomes of the candidate, {outcomes.primary.n:,} of the primary"
        return Finding(
            guard="ab",
            verdict=_undecided(test, evidence),
            message=f"`{test.metric}`: {counted}; {test.min_samples:,} of each are needed.",
            numbers=_counts(outcomes),
        )
    return _compared(test, evidence, outcomes)


def _compared(test: Ab, evidence: Evidence, outcomes: Outcomes) -> Finding:
    gain = gain_of(outcomes, test.goal)
    half = half_width(gain.variance, gain.scale, test.alpha)
    low, high = gain.value - half, gain.value + half
    verdict = Verdict.PASS if low > 0 else Verdict.FAIL if high < 0 else _undecided(test, evidence)
    message = (
        f"{_beside(test.metric, outcomes)}: {_better(gain.value)},"
        f" {pct(1 - test.alpha)} interval {low:.4g} to {high:.4g}."
    )
    numbers = {
        **_counts(outcomes),
        "effect": gain.value,
        "low": low,
        "high": high,
        "e_value": e_value(gain.log_e),
    }
    return Finding(guard="ab", verdict=verdict, message=message, numbers=numbers)


def _undecided(test: Ab, evidence: Evidence) -> Verdict:
    return Verdict.INCONCLUSIVE if evidence.elapsed_s >= test.max_s else Verdict.RUNNING


def _mismatch(test: Ab, evidence: Evidence) -> Finding | None:
    """Words for a split that is not the one which was set; None while it may be."""
    mine, primary = seen_of(evidence.step.candidate), seen_of(evidence.step.primary)
    planned, share = test.weight_pct / 100, share_of(mine, mine + primary)
    log_e = log_mismatch([(mine, primary)], planned)
    is_off = abs(share - planned) > MISMATCH_TOLERANCE * min(planned, 1 - planned)
    if not is_off or log_e < log(1 / MISMATCH_ALPHA):
        return None
    message = (
        f"The candidate had {pct(share)} of {mine + primary:,} requests where {test.weight_pct} % are"
        " planned: callers are not split as they should be, or a few send most of the requests."
    )
    return Finding(
        guard="ab",
        verdict=Verdict.ERROR,
        message=message,
        numbers={"share": share, "planned": planned, "e_value": e_value(log_e)},
    )


def _against_primary(guard: MetricGuard, outcomes: Outcomes, alpha: float) -> Finding:
    gain = gain_of(outcomes, guard.goal)
    message = (
        f"{_beside(guard.metric, outcomes)}: {_better(gain.value)};"
        f" at most {guard.max_loss:g} worse is let pass."
    )
    return _judged(guard, gain, -gain.value - guard.max_loss, message, outcomes, alpha)


def _against_bound(guard: MetricGuard, bound: float, mine: Moments, alpha: float) -> Finding:
    gain = gain_over(bound, mine, guard.goal)
    side = "least" if guard.goal is Goal.INCREASE else "most"
    message = f"`{guard.metric}` is {mine.mean:.4g} of {mine.n:,} outcomes; it may be {bound:g} at {side}."
    return _judged(guard, gain, -gain.value, message, Outcomes(candidate=mine), alpha)


def _judged(
    guard: MetricGuard,
    gain: Gain,
    beyond: float,
    message: str,
    outcomes: Outcomes,
    alpha: float,
) -> Finding:
    noise = 2 * sqrt(gain.variance)
    verdict = verdict_of(beyond, noise=noise, log_e=gain.log_e, alpha=alpha, is_enough=True)
    return Finding(
        guard=_name(guard),
        verdict=verdict,
        message=f"It may be chance yet. {message}" if verdict is Verdict.RUNNING else message,
        numbers={**_counts(outcomes), "effect": gain.value, "e_value": e_value(gain.log_e)},
    )


def _lacking(guard: MetricGuard, outcomes: Outcomes) -> Finding:
    message = (
        f"`{guard.metric}`: {outcomes.candidate.n:,} outcomes of the candidate,"
        f" {outcomes.primary.n:,} of the primary; {guard.min_samples:,} of each are needed."
    )
    return Finding(
        guard=_name(guard), verdict=Verdict.RUNNING, message=message, numbers=_counts(outcomes)
    )


def _is_measurable(outcomes: Outcomes) -> bool:
    """Whether the sums are numbers to reckon with; NaN is not."""
    both = outcomes.candidate, outcomes.primary
    return all(abs(one.total) < LARGEST and abs(one.squares) < LARGEST**2 for one in both)


def _unmeasurable(name: str, metric: str, outcomes: Outcomes) -> Finding:
    message = f"`{metric}` cannot be measured: an outcome is no finite number, or far too large."
    numbers = {
        "candidate_n": float(outcomes.candidate.n),
        "primary_n": float(outcomes.primary.n),
    }
    return Finding(guard=name, verdict=Verdict.ERROR, message=message, numbers=numbers)


def _name(guard: MetricGuard) -> str:
    return f"metric {guard.metric}"


def _beside(metric: str, outcomes: Outcomes) -> str:
    mine, primary = outcomes.candidate, outcomes.primary
    return (
        f"`{metric}` is {mine.mean:.4g} of {mine.n:,} outcomes"
        f" against {primary.mean:.4g} of {primary.n:,}"
    )


def _better(gain: float) -> str:
    return f"{abs(gain):.4g} {'better' if gain >= 0 else 'worse'}"


def _counts(outcomes: Outcomes) -> dict[str, float]:
    return {
        "candidate": outcomes.candidate.mean,
        "primary": outcomes.primary.mean,
        "candidate_n": float(outcomes.candidate.n),
        "primary_n": float(outcomes.primary.n),
    }
