"""What people and clients are shown of a rollout."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from shipway.core.evidence import (
    Account,
    Evidence,
    Moments,
    Outcomes,
    Pair,
    Pairs,
    TrialReport,
    quantile,
)
from shipway.core.guards import Finding
from shipway.core.positions import positions
from shipway.core.rollouts import Moment, Rollout, RolloutPhase, findings_of
from shipway.core.strategies import RolloutPlan

_MOST_LABELS = 8


class StepState(StrEnum):
    """Where a step stands."""

    DONE = "done"
    NOW = "now"
    AHEAD = "ahead"


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the plan. `hold_s` is how long it is held at least."""

    label: str
    weight_pct: int
    mirror_pct: float
    hold_s: float
    pause: bool
    state: StepState


class SideView(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one version in the present step; times are None of nothing.

    `labels` are the most frequent answers with their shares; `score` is the middle of its numbers.
    """

    version: str
    weight_pct: int
    answered: int
    failed: int
    rejected: int
    shed: int
    error_pct: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    labels: dict[str, float]
    score: float | None
    last_error: str


class PairsView(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of requests that both versions answered."""

    compared: int
    agreed: int
    dropped: int
    disagreement_pct: float
    median_distance: float | None
    median_delay_ms: float | None


class OutcomeView(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of one metric, over the whole rollout."""

    metric: str
    primary_n: int
    primary_mean: float
    candidate_n: int
    candidate_mean: float


class RolloutView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout: its plan, where it stands, what was seen, and what the guards say of it.

    `elapsed_s` is how long the present step has lasted; 0 once it has ended. `preview` is where the
    candidate answers by itself.
    """

    id: str
    endpoint: str
    environment: str
    phase: RolloutPhase
    primary: SideView
    candidate: SideView
    plan: RolloutPlan
    steps: tuple[StepView, ...]
    step: str
    elapsed_s: float
    message: str
    findings: tuple[Finding, ...]
    pairs: PairsView | None
    outcomes: tuple[OutcomeView, ...]
    history: tuple[Moment, ...]
    started_at: datetime
    started_by: str
    ended_at: datetime | None
    preview: str = ""


def rollout_view(rollout: Rollout, evidence: Evidence | None, *, preview: str) -> RolloutView:
    """The view of a rollout; of one that has ended, with what decided it."""
    is_live = evidence is not None and rollout.is_under_way
    seen = evidence.step if evidence is not None and is_live else rollout.seen
    if evidence is not None and rollout.phase in (RolloutPhase.RUNNING, RolloutPhase.PAUSED):
        findings = findings_of(rollout, evidence)
    else:
        findings = rollout.findings
    step = seen or TrialReport(
        rollout=rollout.id, epoch=rollout.epoch, primary=Account(), candidate=Account()
    )
    weight = rollout.weight_pct
    return RolloutView(
        id=rollout.id,
        endpoint=rollout.endpoint,
        environment=rollout.environment,
        phase=rollout.phase,
        primary=_side(str(rollout.primary), 100 - weight, step.primary),
        candidate=_side(str(rollout.candidate), weight, step.candidate),
        plan=rollout.plan,
        steps=_steps(rollout),
        step=rollout.position.label,
        elapsed_s=round(evidence.elapsed_s, 1) if evidence is not None and is_live else 0.0,
        message=rollout.message,
        findings=findings,
        pairs=_pairs(step.pairs) if step.pairs.compared or rollout.position.mirror_pct else None,
        outcomes=_outcomes(evidence),
        history=rollout.history,
        started_at=rollout.started_at,
        started_by=rollout.started_by,
        ended_at=rollout.ended_at,
        preview=preview,
    )


def worst_pairs(rollout: Rollout, evidence: Evidence | None) -> tuple[Pair, ...]:
    """The pairs that differ most, worst first."""
    seen = evidence.step if evidence is not None and rollout.is_under_way else rollout.seen
    return () if seen is None else tuple(seen.pairs.worst)


def _steps(rollout: Rollout) -> tuple[StepView, ...]:
    has_begun = rollout.phase is not RolloutPhase.PREPARING
    is_promoted = rollout.phase is RolloutPhase.PROMOTED

    def state(number: int) -> StepState:
        if is_promoted or (has_begun and number < rollout.step):
            return StepState.DONE
        return StepState.NOW if has_begun and number == rollout.step else StepState.AHEAD

    return tuple(
        StepView(
            label=position.label,
            weight_pct=position.weight_pct,
            mirror_pct=position.mirror_pct,
            hold_s=position.hold_s,
            pause=position.pause,
            state=state(number),
        )
        for number, position in enumerate(positions(rollout.plan))
    )


def _side(version: str, weight_pct: int, account: Account) -> SideView:
    asked = account.answered + account.failed + account.rejected
    missed = account.failed + account.rejected
    total = sum(account.labels.values())
    frequent = sorted(account.labels.items(), key=lambda item: -item[1])[:_MOST_LABELS]
    return SideView(
        version=version,
        weight_pct=weight_pct,
        answered=account.answered,
        failed=account.failed,
        rejected=account.rejected,
        shed=account.shed,
        error_pct=round(100 * missed / asked, 3) if asked else 0.0,
        p50_ms=_ms(quantile(account.latency, 0.5)),
        p95_ms=_ms(quantile(account.latency, 0.95)),
        p99_ms=_ms(quantile(account.latency, 0.99)),
        labels={label: round(count / total, 4) for label, count in frequent},
        score=quantile(account.scores, 0.5),
        last_error=account.last_error,
    )


def _pairs(pairs: Pairs) -> PairsView:
    differing = pairs.compared - pairs.agreed
    return PairsView(
        compared=pairs.compared,
        agreed=pairs.agreed,
        dropped=pairs.dropped,
        disagreement_pct=round(100 * differing / pairs.compared, 3) if pairs.compared else 0.0,
        median_distance=quantile(pairs.distances, 0.5),
        median_delay_ms=_ms(quantile(pairs.delays, 0.5)),
    )


def _outcomes(evidence: Evidence | None) -> tuple[OutcomeView, ...]:
    if evidence is None:
        return ()
    return tuple(_outcome(metric, both) for metric, both in sorted(evidence.outcomes.items()))


def _outcome(metric: str, both: Outcomes) -> OutcomeView:
    primary, candidate = _rounded(both.primary), _rounded(both.candidate)
    return OutcomeView(
        metric=metric,
        primary_n=primary[0],
        primary_mean=primary[1],
        candidate_n=candidate[0],
        candidate_mean=candidate[1],
    )


def _rounded(moments: Moments) -> tuple[int, float]:
    return moments.n, float(f"{moments.mean:.6g}")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
