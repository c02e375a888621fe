"""Simulated rollouts and A/B tests, each from its begin to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import sqrt
from multiprocessing import Pool

import numpy as np

from rollout_traffic import TICK_S, Behaviour, Traffic, World
from shipway.core.evidence import Account, Evidence, Moments, Outcomes, TrialReport
from shipway.core.rollouts import Decision, Event, Rollout, RolloutPhase, begun, decide, moved
from shipway.core.strategies import Ab, Guards, RolloutPlan
from shipway.core.versions import VersionRef
from shipway.core.windows import Windows

START = datetime(2026, 1, 1, tzinfo=UTC)
OUTCOMES_PER_TICK = 100
TICKS = 400
OFF = Guards(
    error_rate=None, latency=None, shift=None, rejections=None, disagreement=None, crashes=None
)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How one rollout ended. `exposed`: requests that the candidate was given, or outcomes of it."""

    phase: RolloutPhase
    seconds: float
    exposed: int
    guard: str = ""


USUAL = Behaviour()
MIDDLING = World()
CANARY = RolloutPlan()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a table."""

    name: str
    runs: int
    world: World = MIDDLING
    plan: RolloutPlan = CANARY
    primary: Behaviour = USUAL
    candidate: Behaviour = USUAL


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One A/B row. `kind` of outcome: `binary`, `normal` (deviation 1), `heavy` (log-normal)."""

    name: str
    runs: int
    kind: str = "binary"
    primary: float = 0.2
    candidate: float = 0.2
    weight_pct: int = 50


@dataclass
class Row:
    """What came of the runs of one case."""

    case: Case | Trial
    endings: list[Ending] = field(default_factory=list)

    def __str__(self) -> str:
        ended = Counter(f"{one.phase} {one.guard}".strip() for one in self.endings)
        return f"{self.case.name}: {dict(ended)}"

    def count(self, *phases: RolloutPhase) -> int:
        return sum(one.phase in phases for one in self.endings)

    def share(self, *phases: RolloutPhase) -> float:
        return self.count(*phases) / len(self.endings)

    def words(self, *phases: RolloutPhase) -> str:
        low, high = wilson(self.count(*phases), len(self.endings))
        return f"{100 * self.share(*phases):.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share. Of 0 in 2,000 it ends at 0.19 %."""
    z2, share = 1.96**2, hits / trials
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = 1.96 / (1 + z2 / trials) * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _begun(plan: RolloutPlan) -> Rollout:
    versions = VersionRef(model="m", number=1), VersionRef(model="m", number=2)
    rollout = begun(plan, *versions, id="r", place=("production", "m"), actor="me", now=START)
    return moved(rollout, Decision(event=Event.READY, message="ready"), START)


def _ending(rollout: Rollout, now_s: float, exposed: int) -> Ending:
    failed = [one.guard for one in rollout.findings if one.verdict == "fail"]
    return Ending(
        phase=rollout.phase, seconds=now_s, exposed=exposed, guard=failed[0] if failed else ""
    )


def rolled_out(case: Case, seed: int) -> Ending:
    """One rollout under traffic."""
    rollout = _begun(case.plan)
    traffic = Traffic(case.world, case.primary, case.candidate, np.random.default_rng(seed))
    traffic.begin(rollout.position)
    windows = Windows()
    now_s = since_s = 0.0
    while rollout.phase is RolloutPhase.RUNNING:
        traffic.tick()
        now_s += TICK_S
        evidence = Evidence(
            step=traffic.report(rollout.epoch), elapsed_s=now_s - since_s, before=rollout.seen
        )
        decision = decide(rollout, windows.seen(evidence))
        if decision is not None:
            rollout = moved(rollout, decision, START + timedelta(seconds=now_s))
            since_s = now_s
            traffic.begin(rollout.position)
    return _ending(rollout, now_s, traffic.exposed)


def tested(trial: Trial, seed: int) -> Ending:
    """One A/B test, looked at after each hundred outcomes."""
    rng = np.random.default_rng(seed)
    test = Ab(metric="outcome", weight_pct=trial.weight_pct, max_s=TICKS * TICK_S)
    rollout = _begun(RolloutPlan(stages=(test,), guards=OFF))
    is_mine = rng.random((TICKS, OUTCOMES_PER_TICK)) < trial.weight_pct / 100
    values = _drawn(trial, is_mine, rng)
    mine, primary = _sums(values, is_mine), _sums(values, ~is_mine)
    for tick in range(TICKS):
        step = TrialReport(
            rollout="r",
            epoch=rollout.epoch,
            primary=Account(answered=primary[tick].n),
            candidate=Account(answered=mine[tick].n),
        )
        outcomes = {"outcome": Outcomes(primary=primary[tick], candidate=mine[tick])}
        evidence = Evidence(step=step, elapsed_s=(tick + 1) * TICK_S, outcomes=outcomes)
        decision = decide(rollout, evidence)
        if decision is not None:
            rollout = moved(rollout, decision, START)
            break
    return _ending(rollout, (tick + 1) * TICK_S, mine[tick].n)


def _drawn(trial: Trial, is_mine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    means = np.where(is_mine, trial.candidate, trial.primary)
    match trial.kind:
        case "binary":
            return (rng.random(means.shape) < means).astype(float)
        case "normal":
            return means + rng.normal(size=means.shape)
        case _:
            return means * rng.lognormal(-0.5, 1.0, means.shape)


def _sums(values: np.ndarray, chosen: np.ndarray) -> list[Moments]:
    columns = (chosen, np.where(chosen, values, 0.0), np.where(chosen, values**2, 0.0))
    n, total, squares = (np.cumsum(column.sum(axis=1)) for column in columns)
    return [
        Moments(n=int(n[at]), total=float(total[at]), squares=float(squares[at]))
        for at in range(len(n))
    ]


def simulated(cases: Sequence[Case | Trial], processes: int) -> list[Row]:
    """All rollouts of all cases; the seed of each follows from its place."""
    rows = [Row(case) for case in cases]
    jobs = [
        (at, case, 10_000 * at + run) for at, case in enumerate(cases) for run in range(case.runs)
    ]
    with Pool(processes) as pool:
        for at, ending in pool.imap_unordered(_simulated, jobs, chunksize=20):
            rows[at].endings.append(ending)
            if len(rows[at].endings) == rows[at].case.runs:
                print(rows[at], flush=True)
    return rows


def _simulated(job: tuple[int, Case | Trial, int]) -> tuple[int, Ending]:
    number, case, seed = job
    return number, rolled_out(case, seed) if isinstance(case, Case) else tested(case, seed)
