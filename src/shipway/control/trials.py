"""What the gateways said of the rollouts under way: evidence in memory, as gateways count anew.

Control that starts again has it within a second, as each gateway reports all that it has seen in the
present step. What is lost is what gateways saw that have ended since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from shipway.core.evidence import Evidence, Moments, Outcomes, TrialReport, merged_reports
from shipway.core.observed import Desired, Observed
from shipway.core.reconcile import ended_since, replicas_of
from shipway.core.replicas import ReplicaState
from shipway.core.rollouts import Rollout
from shipway.core.versions import VersionRef
from shipway.core.windows import Windows
from shipway.wire.snapshot import GatewayReport

Sums = Mapping[tuple[str, str], Moments]
"""Outcomes by metric and version."""


class _Begin(msgspec.Struct, frozen=True):
    """When this process first saw a step: which one, in steady seconds, and how old it was then."""

    step: tuple[str, int, datetime]
    steady_s: float
    age_s: float


class Trials:
    """The last report of each gateway instance on each endpoint's rollout. Used from one event loop."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[tuple[str, str], TrialReport]] = {}
        self._begins: dict[str, _Begin] = {}
        self._problems: dict[str, float] = {}
        self._windows = Windows()

    def note(self, report: GatewayReport) -> None:
        """Takes in what a gateway says of the rollouts."""
        for endpoint, trial in report.trials.items():
            mine = self._reports.setdefault(endpoint, {})
            mine[report.gateway, report.instance] = trial

    def keep_only(self, rollouts: Iterable[Rollout]) -> None:
        """Drops what was said of others."""
        mine = tuple(rollouts)
        self._windows.keep_only({rollout.id for rollout in mine})
        kept = {rollout.endpoint for rollout in mine}
        self._reports = {name: said for name, said in self._reports.items() if name in kept}
        self._begins = {name: begin for name, begin in self._begins.items() if name in kept}
        self._problems = {name: at_s for name, at_s in self._problems.items() if name in kept}

    def evidence(
        self,
        one: Desired,
        rollout: Rollout,
        observed: Observed,
        *,
        sums: Sums,
        now: datetime,
        steady_s: float,
    ) -> Evidence:
        """All that is known of the present step of a rollout."""
        said = self._reports.get(rollout.endpoint, {})
        mine = {
            gateway: trial
            for (gateway, _), trial in said.items()
            if (trial.rollout, trial.epoch) == (rollout.id, rollout.epoch)
        }
        problem = _problem(one, rollout.candidate, observed)
        evidence = Evidence(
            step=merged_reports(said.values(), rollout=rollout.id, epoch=rollout.epoch),
            elapsed_s=self._elapsed_s(rollout, now, steady_s),
            before=rollout.seen,
            outcomes=outcomes_of(sums, rollout),
            exits=ended_since(rollout, observed.replicas),
            gateways=sum(gateway.id in mine for gateway in observed.gateways),
            expected=len(observed.gateways),
            problem=problem,
            problem_s=self._problem_s(rollout.endpoint, problem, steady_s),
        )
        return self._windows.seen(evidence)

    def _problem_s(self, endpoint: str, problem: str, steady_s: float) -> float:
        if not problem:
            self._problems.pop(endpoint, None)
            return 0.0
        return steady_s - self._problems.setdefault(endpoint, steady_s)

    def _elapsed_s(self, rollout: Rollout, now: datetime, steady_s: float) -> float:
        """How long the step has lasted: by the steady clock since this process saw it first."""
        step = (rollout.id, rollout.epoch, rollout.since)
        begin = self._begins.get(rollout.endpoint)
        if begin is None or begin.step != step:
            age_s = max(0.0, (now - rollout.since).total_seconds())
            begin = self._begins[rollout.endpoint] = _Begin(step, steady_s, age_s)
        return begin.age_s + steady_s - begin.steady_s


def outcomes_of(sums: Sums, rollout: Rollout) -> dict[str, Outcomes]:
    """The outcomes of a rollout's two versions, by metric."""
    primary, candidate = str(rollout.primary), str(rollout.candidate)
    return {
        metric: Outcomes(
            primary=sums.get((metric, primary), Moments()),
            candidate=sums.get((metric, candidate), Moments()),
        )
        for metric in {metric for metric, _ in sums}
    }


def _problem(one: Desired, candidate: VersionRef, observed: Observed) -> str:
    """Why the candidate cannot answer a request now; empty while it can."""
    key = (one.state.spec.name, str(candidate))
    for gateway in observed.gateways:
        said = gateway.variants.get(key)
        if said is not None and said.error:
            return said.error
    if candidate in one.state.inline:
        return ""
    mine = replicas_of(observed.replicas, one.state.spec.name, candidate)
    if any(replica.state is ReplicaState.READY for replica in mine):
        return ""
    ended = (r for r in mine if r.exited_at is not None)
    last = max(ended, key=lambda r: r.started_at, default=None)
    words = f" The last one said: {last.message}" if last is not None and last.message else ""
    return f"No replica of {candidate} is ready.{words}"
