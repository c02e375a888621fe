"""Guards on what is answered: the mix of predictions, and agreement about the same request."""

from __future__ import annotations

from typing import NamedTuple

from shipway.core.comparison import (
    cells,
    grouped,
    kolmogorov,
    noise_of_labels,
    noise_of_scores,
    total_variation,
)
from shipway.core.evidence import Buckets
from shipway.core.findings import (
    Finding,
    Look,
    Verdict,
    e_value,
    pct,
    share_of,
    verdict_of,
    waiting,
    worst,
)
from shipway.core.sequential import log_excess, log_mean, log_mismatch
from shipway.core.strategies import Disagreement, Shift

WIDTHS = (1, 4, 16)
"""Scores are compared in buckets of 5 %, of 22 %, and of a factor of 2.2."""


class Distance(NamedTuple):
    """How far two distributions are apart, how far chance alone may put them, and the log e-value.

    The evidence is looked for only where the distance is beyond what is let pass; it is 0 elsewhere.
    """

    value: float
    noise: float
    log_e: float


def shift(guard: Shift, look: Look) -> tuple[Finding, ...]:
    """Whether the candidate's predictions are distributed otherwise.

    Nothing is said where neither version gives a label or a number. Without a primary beside it, the
    candidate is compared with the primary of the step before.
    """
    mine, primary = look.step.candidate, look.primary
    if primary is None:
        return ()
    kinds = []
    if mine.labels or primary.labels:
        kinds.append(_shift_of_labels(guard, look.halved(), mine.labels, primary.labels))
    if mine.scores or primary.scores:
        kinds.append(_shift_of_scores(guard, look.halved(), mine.scores, primary.scores))
    answered = min(mine.answered, primary.answered)
    if kinds or answered >= look.min_requests:
        return worst(kinds)
    message = f"Only {answered:,} of {look.min_requests:,} answers of each version yet."
    return (Finding(guard="shift", verdict=Verdict.RUNNING, message=message),)


def disagreement(guard: Disagreement, look: Look) -> tuple[Finding, ...]:
    """Whether both versions answer the same requests alike."""
    compared, other = look.step.pairs.compared, look.step.pairs.compared - look.step.pairs.agreed
    rate, log_e = share_of(other, compared), log_excess(other, compared, guard.max_pct / 100)
    verdict = verdict_of(
        rate - guard.max_pct / 100,
        log_e=log_e,
        alpha=look.alpha,
        is_enough=compared >= look.min_requests,
    )
    message = (
        f"The versions disagree on {pct(rate)} of {compared:,} pairs;"
        f" at most {guard.max_pct:g} % is let pass."
    )
    finding = Finding(
        guard="disagreement",
        verdict=verdict,
        message=waiting(verdict, message, look, ("pairs", compared)),
        numbers={"disagreed": rate, "pairs": float(compared), "e_value": e_value(log_e)},
    )
    return (finding,)


def _shift_of_labels(
    guard: Shift, look: Look, mine: dict[str, int], primary: dict[str, int]
) -> Finding:
    totals, log_e = (sum(mine.values()), sum(primary.values())), 0.0
    distance = total_variation(mine, primary)
    if distance > guard.max_distance:
        log_e = log_mismatch(cells(mine, primary), share_of(totals[0], sum(totals)))
    noise = noise_of_labels(mine, primary)
    return _shifted(guard, look, "labels", totals, Distance(distance, noise, log_e))


def _shift_of_scores(guard: Shift, look: Look, mine: Buckets, primary: Buckets) -> Finding:
    """Finer buckets see more, wider ones see it sooner: the mean of their e-values is one too."""
    totals, log_e = (sum(mine.values()), sum(primary.values())), 0.0
    distance, share = kolmogorov(mine, primary), share_of(totals[0], sum(totals))
    if distance > guard.max_distance:
        both = [(grouped(mine, width), grouped(primary, width)) for width in WIDTHS]
        log_e = log_mean([log_mismatch(cells(*one), share) for one in both])
    found = Distance(distance, noise_of_scores(totals), log_e)
    return _shifted(guard, look, "scores", totals, found)


def _shifted(
    guard: Shift, look: Look, kind: str, totals: tuple[int, int], found: Distance
) -> Finding:
    verdict = verdict_of(
        found.value - guard.max_distance,
        noise=found.noise,
        log_e=found.log_e,
        alpha=look.alpha,
        is_enough=min(totals) >= look.min_requests,
    )
    message = (
        f"The {kind} of {totals[0]:,} answers lie {found.value:.2f} from those of"
        f" {totals[1]:,} of the primary; at most {guard.max_distance:g} is let pass."
    )
    needed = (("answers", totals[0]), ("answers of the primary", totals[1]))
    silent = _silent(kind, totals, look)
    return Finding(
        guard="shift",
        verdict=Verdict.ERROR if silent else verdict,
        message=silent or waiting(verdict, message, look, *needed),
        numbers={
            "distance": found.value,
            "candidate_answers": float(totals[0]),
            "primary_answers": float(totals[1]),
            "noise": found.noise,
            "e_value": e_value(found.log_e),
        },
    )


def _silent(kind: str, totals: tuple[int, int], look: Look) -> str:
    """Words for a version that gives none of what the other gives; empty if both do."""
    answered = look.step.candidate.answered, look.step.primary.answered
    for name, total, count in zip(("candidate", "primary"), totals, answered, strict=True):
        if not total and count >= look.min_requests:
            return f"The {kind} cannot be compared: {count:,} answers of the {name} have none."
    return ""
