"""Guards on how requests fare: errors, refusals, latency."""

from __future__ import annotations

from math import hypot

from msgspec.structs import replace

from shipway.core.comparison import above, less
from shipway.core.evidence import Account, bucket_of, quantile
from shipway.core.findings import (
    Finding,
    Look,
    Verdict,
    e_value,
    ms,
    noise_of,
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

SETTLED_S = 30.0
"""Without a primary beside it, so long a candidate must do harm; not where nearly everything fails."""

HARD = 0.1
"""And ten times what is let pass: a share of failures that no bad moment explains."""

HALF = 0.5
"""Or a share of late answers that none does."""

HARDLY = 10
"""A model that ran for less than one in so many answers is not timed."""


def error_rate(guard: ErrorRate, look: Look) -> Finding:
    """Whether the candidate fails more often than it may.

    Without a primary beside it, that is `max_increase_pct` more than the primary failed in the step before,
    or than never where that is not known, unless there is an absolute bound.
    """
    failed = look.step.candidate.failed
    if not look.setting.has_primary:
        bound_pct = round(_usual_pct(look) + guard.max_increase_pct, 2)
        bound_pct = bound_pct if guard.max_pct is None else guard.max_pct
        words = "With no primary beside it, its error rate is"
        found = _within("error_rate", words, failed, bound_pct, look)
        is_hard = found.numbers["candidate"] > HARD + 10 * bound_pct / 100
        return found if is_hard else _settled(found, look)
    if guard.max_pct is None:
        return _more_errors(guard, look)
    bounded = _within("error_rate", "Its error rate is", failed, guard.max_pct, look.halved())
    return worst([_more_errors(guard, look.halved()), bounded])[0]


def _settled(finding: Finding, look: Look) -> Finding:
    """The finding, but for a fail that may be a bad moment of all that both versions stand on.

    With no primary beside the candidate the two cannot be told apart until the moment has passed.
    """
    if finding.verdict is not Verdict.FAIL or look.elapsed_s >= SETTLED_S:
        return finding
    return replace(finding, verdict=Verdict.RUNNING, message=f"It may pass. {finding.message}")


def rejections(guard: Rejections, look: Look) -> Finding:
    """Whether the candidate refuses what the primary takes."""
    refused = look.step.candidate.rejected
    return _within("rejections", "Only the candidate refuses", refused, guard.max_pct, look)


def latency(guard: Latency, look: Look) -> tuple[Finding, ...]:
    """Whether the candidate is slower than it may be.

    Without a primary beside it, it is compared with the primary of the step before where that is known.
    Nothing is said where answers come from the cache so often that a version's model hardly runs.
    """
    primary = look.primary
    if _is_idle(look.step.candidate, look) or (primary is not None and _is_idle(primary, look)):
        return ()
    is_relative = guard.max_ratio is not None and primary is not None
    share = look.halved() if is_relative and guard.max_ms is not None else look
    bounds = []
    if guard.max_ratio is not None and primary is not None:
        bounds.append(_slower(guard, share, primary, guard.max_ratio))
    if guard.max_ms is not None:
        bounds.append(_slow(guard, share, guard.max_ms / 1000, None))
    return worst(bounds)


def _is_idle(account: Account, look: Look) -> bool:
    """Whether a version answered a lot, and its model ran too seldom to be timed."""
    is_busy = account.answered >= HARDLY * look.min_requests
    return is_busy and sum(account.latency.values()) < look.min_requests


def _usual_pct(look: Look) -> float:
    before = look.primary
    if before is None:
        return 0.0
    rate = share_of(before.failed, seen_of(before))
    # Three standard errors more: the measure is one of chance too.
    return 100 * (rate + 1.5 * noise_of(rate, seen_of(before)))


def _more_errors(guard: ErrorRate, look: Look) -> Finding:
    """Of all failures, the candidate's part is tested against its part of the requests.

    That holds also where the rate changes with time, for both versions have the same time.
    """
    mine, primary = look.step.candidate, look.step.primary
    seen, beside = seen_of(mine), seen_of(primary)
    rate, usual = share_of(mine.failed, seen), share_of(primary.failed, beside)
    log_e = log_excess(mine.failed, mine.failed + primary.failed, share_of(seen, seen + beside))
    verdict = verdict_of(
        rate - usual - guard.max_increase_pct / 100,
        noise=hypot(noise_of(rate, seen), noise_of(usual, beside)),
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
        rate - bound_pct / 100,
        log_e=log_e,
        alpha=look.alpha,
        is_enough=seen >= look.min_requests,
    )
    message = f"{words} {pct(rate)} of {seen:,} requests; at most {bound_pct:g} % is let pass."
    return Finding(
        guard=name,
        verdict=verdict,
        message=waiting(verdict, message, look, ("requests", seen)),
        numbers={"candidate": rate, "candidate_requests": float(seen), "e_value": e_value(log_e)},
    )


def _slower(guard: Latency, look: Look, primary: Account, max_ratio: float) -> Finding:
    """Against a primary, once that has answered enough to be a measure."""
    usual, answered = quantile(primary.latency, guard.quantile), sum(primary.latency.values())
    if usual is None or answered < look.min_requests:
        return Finding(
            guard="latency",
            verdict=Verdict.RUNNING,
            message=f"Only {answered:,} of {look.min_requests:,} answers of the primary yet.",
        )
    bound = max(usual * max_ratio, usual + LEAST_DELAY_S)
    if look.setting.has_primary:
        return _slow(guard, look, bound, usual)
    # A measure of some seconds misses what happens once a minute: twice as many may be late.
    found = _slow(guard, look, bound, None, allowed=2 * (1 - guard.quantile))
    return found if found.numbers["share_late"] > HALF else _settled(found, look)


def _slow(
    guard: Latency, look: Look, bound: float, usual: float | None, *, allowed: float | None = None
) -> Finding:
    """Whether more answers take longer than a bound than may; `usual` is the primary's quantile.

    The share `allowed` is 1 less the quantile when left out.

    With a primary, the candidate's part of all answers that take longer is tested against its part of
    all answers. Its slowest seconds are left out, so that one stall does not condemn it.
    """
    steady, limit = less(look.step.candidate.latency, look.step.candidate.slowest), bucket_of(bound)
    answered, late = sum(steady.values()), above(steady, limit)
    allowed = 1 - guard.quantile if allowed is None else allowed
    share, noise = share_of(late, answered), 0.0
    if usual is None:
        log_e = log_excess(late, answered, allowed)
    else:
        others, noise = look.step.primary.latency, noise_of(share, answered)
        part = share_of(answered, answered + sum(others.values()))
        log_e = log_excess(late, late + above(others, limit), part)
    verdict = verdict_of(
        share - allowed,
        noise=noise,
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
            "share_late": share,
            "candidate_answers": float(answered),
            "e_value": e_value(log_e),
        },
    )
