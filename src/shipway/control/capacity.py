"""How many replicas each version should have now: by its endpoint's load, and by the memory budget."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from shipway.control.budget import Budget, Look
from shipway.control.loads import Loads
from shipway.core.endpoints import EndpointState, Residency
from shipway.core.observed import Desired
from shipway.core.reconcile import replicas_of, wanted_versions
from shipway.core.replicas import ReplicaState
from shipway.core.versions import VersionRef

_log = logging.getLogger(__name__)


class Capacity:
    """Decides it at every look. Used from one event loop."""

    def __init__(self, *, budget_mb: float | None = None) -> None:
        self._loads = Loads()
        self._budget = None if budget_mb is None else Budget(budget_mb)
        self._asleep: set[str] = set()
        self._waking_s: dict[str, float] = {}
        self.woken: dict[str, float] = {}

    @property
    def is_bounded(self) -> bool:
        """Whether models share a memory budget, so that `auto` places none inline."""
        return self._budget is not None

    def decided(self, desired: Sequence[Desired], look: Look) -> list[Desired]:
        """The same endpoints with their counts, and with those that wait for memory."""
        names = {one.state.spec.name for one in desired}
        self._loads.forget_others(names)
        counted = [self._counted(one, look) for one in desired]
        if self._budget is not None:
            counted = self._budget.fit(counted, look)
        for one in counted:
            self._time_waking(one, look)
        self._asleep &= names
        self.woken = {name: took for name, took in self.woken.items() if name in names}
        return counted

    def _counted(self, one: Desired, look: Look) -> Desired:
        state = one.state
        count = self._loads.count(state, look.observed, steady_s=look.steady_s)
        versions = [v for v in wanted_versions(state, look.now) if v not in state.inline]
        held = _held(state)
        counts = {v: max(1, count) if v in held else count for v in versions}
        sleepers = frozenset(v for v in versions if v not in held and self._may_sleep(one, v))
        return msgspec.structs.replace(one, counts=counts, sleepers=sleepers)

    def _may_sleep(self, one: Desired, version: object) -> bool:
        spec = one.state.spec
        if spec.scaling is not None and spec.scaling.min_replicas == 0:
            return True
        is_pinned = spec.residency is Residency.PINNED and version == one.state.active
        return self._budget is not None and not is_pinned

    def _time_waking(self, one: Desired, look: Look) -> None:
        """Notes how long a start took that callers waited for, what it waited for included."""
        name, active = one.state.spec.name, one.state.active
        if active is None or active in one.state.inline:
            return
        mine = replicas_of(look.observed.replicas, name, active)
        if one.count_of(active) == 0:
            self._waking_s.pop(name, None)
            if not any(r.is_running for r in mine):
                self._asleep.add(name)
            return
        if name in self._asleep:
            self._asleep.discard(name)
            self._waking_s[name] = look.steady_s
        if name in self._waking_s and any(r.state is ReplicaState.READY for r in mine):
            took_s = look.steady_s - self._waking_s.pop(name)
            self.woken[name] = took_s
            _log.info("%s of endpoint %s was woken in %.2f s", active, name, took_s)


def _held(state: EndpointState) -> tuple[VersionRef | None, ...]:
    """The versions that stay awake: a target, and in a rollout what it would replace."""
    return (state.target,) if state.releasing is None else (state.target, state.active)
