"""Guards on how requests fare: errors, refusals, latency."""

from __future__ import annotations

from shipway.core.comparison import above, less
from shipway.core.evidence import bucket_of, quantile
from shipway.core.findings import (
    Finding,
    Look,
    Verdict,
    e_value,
    ms,
    pct,
    seen_of,
    share_of,
    verdict_of,
    waiting,
    worst,
)
from shipway.core.sequential import log_excess
from shipway.core.strategies import ErrorRate, Latency, Rejections

LEAST_DELAY_S = 0.005
"""So much slower is always let pass."""


def error_rate(guard: ErrorRate, look: Look) -> tuple[Finding, ...]:
    """Whether the candidate fails more often than it may.

    Without a primary beside it, `max_increase_pct` is an absolute bound, unless there is another.
    """
    failed = look.step.candidate.failed
    if not look.setting.has_primary:
        bound_pct = guard.max_increase_pct if guard.max_pct is None else guard.max_pct
        words = "With no primary beside it, its error rate is"
        return (_within("error_rate", words, failed, bound_pct, look),)
    if guard.max_pct is None:
        return (_more_errors(guard, look),)
    bounded = _within("error_rate", "Its error rate is", failed, guard.max_pct, look.halved())
    return worst([_more_errors(guard, look.halved()), bounded])


def rejections(guard: Rejections, look: Look) -> tuple[Finding, ...]:
    """Whether the candidate refuses what the primary takes."""
    refused = look.step.candidate.rejected
    return (_within("rejections", "Only the candidate refuses", refused, guard.max_pct, look),)


def latency(guard: Latency, look: Look) -> tuple[Finding, ...]:
    """Whether the candidate is slower than it may be."""
    is_relative = look.setting.has_primary and guard.max_ratio is not None
    bounds = []
    if is_relative:
        bounds.append(_slower(guard, look if guard.max_ms is None else look.halved()))
    if guard.max_ms is not None:
        halved = look.halved() if is_relative else look
        bounds.append(_slow(guard, halved, guard.max_ms / 1000, None))
    return worst(bounds)


def _more_errors(guard: ErrorRate, look: Look) -> Finding:
    """Of all failures, the candidate's part is tested against its part of the requests.

    That holds also where the rate changes with time, for both versions have the same time.
    """
    mine, primary = look.step.candidate, look.step.primary
    seen, beside = seen_of(mine), seen_of(primary)
    rate, usual = share_of(mine.failed, seen), share_of(primary.failed, beside)
    log_e = log_excess(mine.failed, mine.failed + primary.failed, share_of(seen, seen + beside))
    verdict = verdict_of(
        is_beyond=rate - usual > guard.max_increase_pct / 100,
        log_e=log_e,
        alpha=look.alpha,
        is_enough=min(seen, beside) >= look.min_requests,
    )
    points = "1 point" if guard.max_increase_pct == 1 else f"{guard.max_increase_pct:g} points"
    message = (
        f"Error rate {pct(rate)} of {seen:,} requests against {pct(usual)} of {beside:,};"
        f" at most {points} more is let pass."
    )
    needed = (("requests", seen), ("requests of the primary", beside))
    return Finding(
        guard="error_rate",
        verdict=verdict,
        message=waiting(verdict, message, look, *needed),
        numbers={
            "candidate": rate,
            "primary": usual,
            "candidate_requests": float(seen),
            "primary_requests": float(beside),
            "e_value": e_value(log_e),
        },
    )


def _within(name: str, words: str, hits: int, bound_pct: float, look: Look) -> Finding:
    """Whether a share of the candidate's requests stays within an absolute bound."""
    seen = seen_of(look.step.candidate)
    rate, log_e = share_of(hits, seen), log_excess(hits, seen, bound_pct / 100)
    verdict = verdict_of(
        is_beyond=rate > bound_pct / 100,
        log_e=log_e,
        alpha=look.alpha,
        is_enough=seen >= look.min_requests,
    )
    message = f"{words} {pct(rate)} of {seen:,} requests; at most {bound_pct:g} % are let pass."
    return Finding(
        guard=name,
        verdict=verdict,
        message=waiting(verdict, message, look, ("requests", seen)),
        numbers={"candidate": rate, "candidate_requests": float(seen), "e_value": e_value(log_e)},
    )


def _slower(guard: Latency, look: Look) -> Finding:
    """Against the primary, once that has answered enough to be a measure."""
    usual = quantile(look.step.primary.latency, guard.quantile)
    answered = sum(look.step.primary.latency.values())
    if usual is None or answered < look.min_requests:
        return Finding(
            guard="latency",
            verdict=Verdict.RUNNING,
            message=f"Only {answered:,} of {look.min_requests:,} answers of the primary yet.",
        )
    bound = max(usual * (guard.max_ratio or 1), usual + LEAST_DELAY_S)
    return _slow(guard, look, bound, usual)


def _slow(guard: Latency, look: Look, bound: float, usual: float | None) -> Finding:
    """Whether more answers take longer than a bound than may; `usual` is the primary's quantile.

    With a primary, the candidate's part of all answers that take longer is tested against its part of
    all answers. Its slowest seconds are left out, so that one stall does not condemn it.
    """
    steady, limit = less(look.step.candidate.latency, look.step.candidate.slowest), bucket_of(bound)
    answered, late, allowed = sum(steady.values()), above(steady, limit), 1 - guard.quantile
    if usual is None:
        log_e = log_excess(late, answered, allowed)
    else:
        others = look.step.primary.latency
        part = share_of(answered, answered + sum(others.values()))
        log_e = log_excess(late, late + above(others, limit), part)
    verdict = verdict_of(
        is_beyond=late > allowed * answered + 1e-6,
        log_e=log_e,
        alpha=look.alpha,
        is_enough=answered >= look.min_requests,
    )
    mine = quantile(steady, guard.quantile) or 0.0
    against = "" if usual is None else f" against {ms(usual)}"
    message = (
        f"Latency p{100 * guard.quantile:g} {ms(mine)} of {answered:,} answers{against};"
        f" at most {ms(bound)} is let pass."
    )
    return Finding(
        guard="latency",
        verdict=verdict,
        message=waiting(verdict, message, look, ("answers", answered)),
        numbers={
            "candidate_ms": 1000 * mine,
            **({} if usual is None else {"primary_ms": 1000 * usual}),
            "bound_ms": 1000 * bound,
            "share_late": share_of(late, answered),
            "candidate_answers": float(answered),
            "e_value": e_value(log_e),
        },
    )
