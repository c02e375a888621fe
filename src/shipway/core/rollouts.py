"""A rollout: where the change of an endpoint from one version to another stands, and what comes next.

               ready              advance                finish, promote
   preparing ─────────► running ───────────► running … ────────────────► promoted
       │                │  ▲  │
       │          pause │  │  │ fail                       (from anywhere before the end:
 start │                ▼  │  ▼                             abort -> aborted,
 failed│               paused ─── fail ──► rolled_back      supersede -> superseded)
       ▼
     failed

The plan's stages are laid out as one list of positions, each with the candidate's weight. `decide` reads
evidence and says which event happens next, or none; `moved` applies it, by the table alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from shipway.core.errors import RolloutNotPossible
from shipway.core.evidence import Evidence, TrialReport
from shipway.core.guards import Finding, Setting, Verdict, judged
from shipway.core.positions import Position, positions
from shipway.core.strategies import RolloutPlan
from shipway.core.versions import VersionRef

_replace = msgspec.structs.replace

KEPT_MOMENTS = 200
"""So much of its history is kept with a rollout; the audit record has all of it."""


class RolloutPhase(StrEnum):
    """Where a rollout stands."""

    PREPARING = "preparing"
    """The candidate is being started and warmed."""

    RUNNING = "running"
    """The candidate is at a step of the plan."""

    PAUSED = "paused"
    """It stays at its step until a person decides; guards still watch."""

    PROMOTED = "promoted"
    """The candidate took the primary's place."""

    ROLLED_BACK = "rolled_back"
    """A guard failed, and the primary has all traffic."""

    ABORTED = "aborted"
    """A person gave it up."""

    SUPERSEDED = "superseded"
    """Another rollout took its place."""

    FAILED = "failed"
    """The candidate could not be started."""


class Event(StrEnum):
    """What can happen to a rollout."""

    READY = "ready"
    START_FAILED = "start_failed"
    ADVANCE = "advance"
    FINISH = "finish"
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    FAIL = "fail"
    ABORT = "abort"
    SUPERSEDE = "supersede"


_P = RolloutPhase
_E = Event
TRANSITIONS: Mapping[tuple[RolloutPhase, Event], RolloutPhase] = {
    (_P.PREPARING, _E.READY): _P.RUNNING,
    (_P.PREPARING, _E.START_FAILED): _P.FAILED,
    (_P.PREPARING, _E.ABORT): _P.ABORTED,
    (_P.PREPARING, _E.SUPERSEDE): _P.SUPERSEDED,
    (_P.RUNNING, _E.ADVANCE): _P.RUNNING,
    (_P.RUNNING, _E.FINISH): _P.PROMOTED,
    (_P.RUNNING, _E.PAUSE): _P.PAUSED,
    (_P.RUNNING, _E.PROMOTE): _P.PROMOTED,
    (_P.RUNNING, _E.FAIL): _P.ROLLED_BACK,
    (_P.RUNNING, _E.ABORT): _P.ABORTED,
    (_P.RUNNING, _E.SUPERSEDE): _P.SUPERSEDED,
    (_P.PAUSED, _E.RESUME): _P.RUNNING,
    (_P.PAUSED, _E.PROMOTE): _P.PROMOTED,
    (_P.PAUSED, _E.FAIL): _P.ROLLED_BACK,
    (_P.PAUSED, _E.ABORT): _P.ABORTED,
    (_P.PAUSED, _E.SUPERSEDE): _P.SUPERSEDED,
}
"""Every change of phase that there is; whatever is not here is refused."""

UNDER_WAY = frozenset({_P.PREPARING, _P.RUNNING, _P.PAUSED})


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a rollout."""

    at: datetime
    event: Event
    message: str
    weight_pct: int = 0


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """The durable state of a rollout.

    `step` counts the positions of its plan, `epoch` the changes of what gateways do for it; `since` is
    when the present step began. `is_cleared`: a person let it go on from this step. `findings` are
    those that decided its last move, `seen` what they were made from.
    """

    id: str
    endpoint: str
    environment: str
    plan: RolloutPlan
    primary: VersionRef
    candidate: VersionRef
    phase: RolloutPhase
    started_at: datetime
    started_by: str
    since: datetime
    step: int = 0
    epoch: int = 0
    is_cleared: bool = False
    message: str = ""
    findings: tuple[Finding, ...] = ()
    seen: TrialReport | None = None
    history: tuple[Moment, ...] = ()
    ended_at: datetime | None = None

    @property
    def position(self) -> Position:
        """The present step."""
        return positions(self.plan)[self.step]

    @property
    def is_under_way(self) -> bool:
        """Whether it may still move."""
        return self.phase in UNDER_WAY

    @property
    def weight_pct(self) -> int:
        """The candidate's share of requests now; the primary has the rest."""
        if self.phase is RolloutPhase.PROMOTED:
            return 100
        if self.phase in (RolloutPhase.RUNNING, RolloutPhase.PAUSED):
            return self.position.weight_pct
        return 0


Findings = tuple[Finding, ...]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What happens next, and what it rests on: the findings, and what was seen in the step."""

    event: Event
    message: str
    findings: tuple[Finding, ...] = ()
    seen: TrialReport | None = None


def setting_of(rollout: Rollout) -> Setting:
    """Under what the present step runs, for the guards."""
    laid_out = positions(rollout.plan)
    return Setting(
        weight_pct=rollout.position.weight_pct,
        mirror_pct=rollout.position.mirror_pct,
        test=rollout.position.test,
        steps=sum(position.is_observed for position in laid_out),
        is_last=rollout.step + 1 == len(laid_out),
    )


def decide(rollout: Rollout, evidence: Evidence) -> Decision | None:
    """What happens next by this evidence; None when nothing does."""
    if rollout.phase not in (RolloutPhase.RUNNING, RolloutPhase.PAUSED):
        return None
    findings = findings_of(rollout, evidence)
    event, message, findings = _next_event(rollout, evidence, findings)
    if event is None:
        return None
    return Decision(event=event, message=message, findings=findings, seen=evidence.step)


def _next_event(
    rollout: Rollout, evidence: Evidence, findings: Findings
) -> tuple[Event | None, str, Findings]:
    failed = [one for one in findings if one.verdict is Verdict.FAIL]
    if failed:
        return Event.FAIL, f"`{failed[0].guard}`: {failed[0].message}", findings
    if rollout.phase is RolloutPhase.PAUSED or not _is_held(rollout, evidence):
        return None, "", findings
    unsure = [one for one in findings if one.verdict is not Verdict.PASS]
    if unsure:
        return _waited(rollout, evidence, unsure[0], findings)
    if rollout.position.pause and not rollout.is_cleared:
        label = rollout.position.label
        return Event.PAUSE, f"`{label}` passed; a person decides how it goes on.", findings
    return _onward(rollout, findings)


def findings_of(rollout: Rollout, evidence: Evidence) -> Findings:
    """What the guards, and the test of an A/B step, say now."""
    position = rollout.position
    if evidence.problem and not position.is_observed:
        return (Finding(guard="ready", verdict=Verdict.ERROR, message=evidence.problem),)
    return judged(rollout.plan.guards, setting_of(rollout), evidence)


def _is_held(rollout: Rollout, evidence: Evidence) -> bool:
    position, step = rollout.position, evidence.step
    seen = step.pairs.compared if position.mirror_pct else step.candidate.answered
    return evidence.elapsed_s >= position.hold_s and seen >= position.hold_requests


def _waited(
    rollout: Rollout, evidence: Evidence, unsure: Finding, findings: Findings
) -> tuple[Event | None, str, Findings]:
    """Nothing yet, or a pause when the plan's patience is at its end."""
    is_given_up = unsure.verdict is Verdict.INCONCLUSIVE
    patience_s = rollout.position.hold_s + rollout.plan.patience_s
    if rollout.position.test is not None:
        patience_s = rollout.position.test.max_s
    if not is_given_up and evidence.elapsed_s <= patience_s:
        return None, "", findings
    ended = tuple(
        _replace(one, verdict=Verdict.INCONCLUSIVE) if one.verdict is Verdict.RUNNING else one
        for one in findings
    )
    return Event.PAUSE, f"Inconclusive: `{unsure.guard}`: {unsure.message}", ended


def _onward(rollout: Rollout, findings: Findings) -> tuple[Event, str, Findings]:
    laid_out = positions(rollout.plan)
    if rollout.step + 1 < len(laid_out):
        return Event.ADVANCE, f"On to `{laid_out[rollout.step + 1].label}`.", findings
    return Event.FINISH, f"{rollout.candidate} passed every step.", findings


def begun(  # noqa: PLR0913 - what a rollout is
    plan: RolloutPlan,
    primary: VersionRef,
    candidate: VersionRef,
    *,
    id: str,  # noqa: A002 - its field's name
    place: tuple[str, str],
    actor: str,
    now: datetime,
) -> Rollout:
    """A new rollout; `place` is its environment and endpoint."""
    environment, endpoint = place
    return Rollout(
        id=id,
        endpoint=endpoint,
        environment=environment,
        plan=plan,
        primary=primary,
        candidate=candidate,
        phase=RolloutPhase.PREPARING,
        started_at=now,
        started_by=actor,
        since=now,
    )


def moved(rollout: Rollout, decision: Decision, now: datetime) -> Rollout:
    """The rollout once that has happened.

    Raises:
        RolloutNotPossible: it cannot happen in its phase.
    """
    event = decision.event
    phase = TRANSITIONS.get((rollout.phase, event))
    if phase is None:
        raise RolloutNotPossible(
            f"The rollout of {rollout.candidate} is {rollout.phase.value}:"
            f" there is nothing to {event.value.replace('_', ' ')}.",
            next_step=f"See `shipway rollout status {rollout.endpoint}`.",
            phase=rollout.phase.value,
        )
    after = _replace(
        rollout,
        phase=phase,
        message=decision.message,
        findings=decision.findings or rollout.findings,
        seen=decision.seen or rollout.seen,
    )
    match event:
        case Event.READY:
            after = _replace(after, since=now, epoch=rollout.epoch + 1)
        case Event.ADVANCE:
            after = _replace(
                after, step=rollout.step + 1, epoch=rollout.epoch + 1, since=now, is_cleared=False
            )
        case Event.RESUME:
            after = _replace(after, since=now, is_cleared=True)
        case _:
            pass
    if not after.is_under_way:
        after = _replace(after, ended_at=now)
    moment = Moment(at=now, event=event, message=decision.message, weight_pct=after.weight_pct)
    return _replace(after, history=(*rollout.history, moment)[-KEPT_MOMENTS:])
