"""The memory budget at work: which versions are resident, which make room, which wait."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from shipway.control.local_versions import LocalVersion
from shipway.core.endpoints import Residency
from shipway.core.memory import Candidate, Choice, Key, Resident, Room, choose, estimated_mb
from shipway.core.observed import Desired, Observed
from shipway.core.reconcile import replicas_of, startable
from shipway.core.replicas import Replica, ReplicaState
from shipway.core.versions import VersionRef

RESERVE = 0.05
"""This share of the budget is not given out: measurements are seconds old, and models grow a little."""

_log = logging.getLogger(__name__)
_replace = msgspec.structs.replace


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One moment: what was seen, what is known of the versions, and both clocks."""

    observed: Observed
    local: Mapping[VersionRef, LocalVersion]
    now: datetime
    steady_s: float


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """One version under the budget: whether somebody needs it, and what it has."""

    one: Desired
    version: VersionRef
    mine: tuple[Replica, ...]
    is_busy: bool
    used_s: float

    @property
    def key(self) -> Key:
        return (self.one.state.spec.name, self.version)

    @property
    def running(self) -> tuple[Replica, ...]:
        return tuple(r for r in self.mine if r.is_running)

    @property
    def is_target(self) -> bool:
        """Whether a change under way needs it: the target, and in a rollout what it would replace."""
        state = self.one.state
        is_primary = state.releasing is not None and self.version == state.active
        return is_primary or self.version == state.target

    @property
    def is_pinned(self) -> bool:
        state = self.one.state
        return state.spec.residency is Residency.PINNED and self.version == state.active

    @property
    def is_asked(self) -> bool:
        return self.is_target or self.is_pinned or self.is_busy

    @property
    def is_wanted(self) -> bool:
        state = self.one.state
        preloads = state.spec.residency is Residency.PRELOAD and self.version == state.active
        return self.is_asked or bool(self.running) or preloads


class Budget:
    """Fits what endpoints want into `budget_mb`. Used from one event loop.

    What it remembers (sizes, and since when somebody waits) is learnt anew after a restart.
    """

    def __init__(self, budget_mb: float) -> None:
        self._budget_mb = budget_mb
        self._first_mb: dict[str, float] = {}
        self._needs_mb: dict[VersionRef, float] = {}
        self._ready_s: dict[Key, float] = {}
        self._waiting_s: dict[Key, float] = {}
        self._evicted: frozenset[Key] = frozenset()

    def fit(self, desired: Sequence[Desired], look: Look) -> list[Desired]:
        """The same endpoints, with the counts that the memory allows at this moment."""
        self._learn(look.observed.replicas)
        cases = [tuple(_cases(one, look)) for one in desired]
        wanted = [
            case
            for mine in cases
            for case in mine
            if case.is_wanted and case.one.count_of(case.version)
        ]
        residents = [self._resident(case, look) for case in wanted if case.running]
        self._ready_s = {r.key: self._ready_s[r.key] for r in residents if r.key in self._ready_s}
        starts = {case.key: len(_starts(case, look.now)) for case in wanted}
        candidates = [
            self._candidate(case, starts[case.key], look) for case in wanted if starts[case.key]
        ]
        counted = {r.id for case in wanted for r in case.running}
        ending_mb = sum(
            self._size(r, look)
            for r in look.observed.replicas
            if r.id not in counted and r.state is not ReplicaState.EXITED
        )
        room = Room(
            budget_mb=self._budget_mb,
            reserve_mb=RESERVE * self._budget_mb,
            ending_mb=ending_mb,
        )
        choice = choose(residents, candidates, room=room, now_s=look.steady_s)
        self._remember(choice)
        kept = {case.key for case in wanted} - choice.evicted
        return [_fitted(one, mine, kept, choice) for one, mine in zip(desired, cases, strict=True)]

    def _learn(self, replicas: Iterable[Replica]) -> None:
        """What a version needs: the most that its last replica held.

        What it grew by since it was loaded never makes it too large for the budget: a model that
        leaks starts small again.
        """
        measured = [replica for replica in replicas if replica.peak_mb]
        self._first_mb = {r.id: self._first_mb.get(r.id, r.peak_mb) for r in measured}
        for r in measured:
            grown_mb = min(r.peak_mb, 0.8 * self._budget_mb)
            self._needs_mb[r.version] = max(self._first_mb[r.id], grown_mb)

    def _resident(self, case: _Case, look: Look) -> Resident:
        is_ready = all(r.state is ReplicaState.READY for r in case.running)
        if is_ready:
            self._ready_s.setdefault(case.key, look.steady_s)
        else:
            self._ready_s.pop(case.key, None)
        since_s = self._ready_s.get(case.key, look.steady_s)
        return Resident(
            key=case.key,
            size_mb=sum(self._size(r, look) for r in case.running),
            used_s=case.used_s,
            since_s=since_s,
            is_busy=case.is_busy,
            is_leaving=case.key in self._evicted,
            stays=case.is_target or case.is_pinned or not is_ready or not look.observed.settled,
        )

    def _candidate(self, case: _Case, starts: int, look: Look) -> Candidate:
        return Candidate(
            key=case.key,
            size_mb=starts * self._estimate(case.version, look),
            since_s=self._waiting_s.setdefault(case.key, look.steady_s),
            may_evict=case.is_asked,
        )

    def _size(self, replica: Replica, look: Look) -> float:
        return replica.memory_mb or self._estimate(replica.version, look)

    def _estimate(self, version: VersionRef, look: Look) -> float:
        local = look.local.get(version)
        size_bytes = local.record.size_bytes if local is not None and local.record else 0
        return estimated_mb(size_bytes, peak_mb=self._needs_mb.get(version))

    def _remember(self, choice: Choice) -> None:
        for endpoint, version in sorted(choice.evicted - self._evicted):
            _log.info("%s of endpoint %s makes room for another model", version, endpoint)
        self._evicted = choice.evicted
        waits = choice.waiting.keys() | choice.refused.keys()
        self._waiting_s = {k: v for k, v in self._waiting_s.items() if k in waits}


def _cases(one: Desired, look: Look) -> Iterable[_Case]:
    for version in one.counts:
        fact = one.facts.get(version)
        if fact is None or fact.error:
            continue
        key = (one.state.spec.name, str(version))
        said = [g.variants[key] for g in look.observed.gateways if key in g.variants]
        yield _Case(
            one=one,
            version=version,
            mine=replicas_of(look.observed.replicas, one.state.spec.name, version),
            is_busy=any(evidence.in_flight for evidence in said),
            used_s=max((evidence.asked_s for evidence in said), default=0.0),
        )


def _starts(case: _Case, now: datetime) -> Sequence[object]:
    return startable(case.one, case.version, case.mine, now)


def _fitted(one: Desired, mine: Sequence[_Case], kept: set[Key], choice: Choice) -> Desired:
    gone = {case.version: 0 for case in mine if case.key not in kept}
    waiting = {c.version: choice.waiting[c.key] for c in mine if c.key in choice.waiting}
    refused = {c.version: choice.refused[c.key] for c in mine if c.key in choice.refused}
    return _replace(
        one,
        counts={**one.counts, **gone},
        waiting={**waiting, **refused},
        refused=refused,
    )
