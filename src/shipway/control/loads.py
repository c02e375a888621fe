"""What the endpoints with `scaling` are asked, and how many replicas that makes."""

from __future__ import annotations

from collections.abc import Iterable

from shipway.core.endpoints import EndpointState, Residency
from shipway.core.observed import GatewayEvidence, Observed, VariantEvidence
from shipway.core.reconcile import replicas_of
from shipway.core.replicas import Replica
from shipway.core.scaling import Sample, Window, begin_with, decide
from shipway.core.versions import VersionRef

FINEST_S = 0.2
"""Loads are noted at most so often; looks come in bursts when much happens."""


class Loads:
    """The recent load of each endpoint, and the number of replicas decided last.

    In memory alone: after a restart the number is what runs, and the window begins anew.
    """

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._counts: dict[str, int] = {}
        self._actives: dict[str, VersionRef | None] = {}

    def forget_others(self, names: Iterable[str]) -> None:
        """Drops all but these endpoints."""
        kept = set(names)
        self._windows = {k: v for k, v in self._windows.items() if k in kept}
        self._counts = {k: v for k, v in self._counts.items() if k in kept}
        self._actives = {k: v for k, v in self._actives.items() if k in kept}

    def count(self, state: EndpointState, observed: Observed, *, steady_s: float) -> int:
        """How many replicas each version of the endpoint should have by its load."""
        scaling, name = state.spec.scaling, state.spec.name
        if scaling is None:
            return state.spec.replicas
        current = self._counts.get(name)
        if current is None:
            current = _count_now(state, observed.replicas)
        elif self._actives.get(name) != state.active:
            # Just activated, and awake: it may be tried now, and sleeps after `idle_s` like any other.
            current = max(1, current)
            self._windows.pop(name, None)
        self._actives[name] = state.active
        if observed.gateways:
            window = self._noted(state, observed.gateways, steady_s)
            decided = decide(scaling, current, window, steady_s)
            current = decided if observed.settled else max(current, decided)
        self._counts[name] = current
        return current

    def _noted(
        self, state: EndpointState, gateways: Iterable[GatewayEvidence], steady_s: float
    ) -> Window:
        name, scaling = state.spec.name, state.spec.scaling
        assert scaling is not None
        window = self._windows.get(name) or Window(since_s=steady_s, asked_s=steady_s)
        said = tuple(_evidence_of(name, gateways))
        is_inside = any(one.in_flight for one in said)
        is_news = is_inside != window.is_inside
        if window.recent and steady_s - window.recent[-1].at_s < FINEST_S and not is_news:
            return window
        load = sum(max(one.load, one.held) for one in said)
        window = window.noted(
            Sample(steady_s, load),
            keep_s=scaling.down_after_s,
            asked_s=max((one.asked_s for one in said), default=window.asked_s),
            is_inside=is_inside,
        )
        self._windows[name] = window
        return window


def _evidence_of(endpoint: str, gateways: Iterable[GatewayEvidence]) -> Iterable[VariantEvidence]:
    """What all gateways say of an endpoint's variants."""
    return (
        evidence
        for gateway in gateways
        for (name, _), evidence in gateway.variants.items()
        if name == endpoint
    )


def _count_now(state: EndpointState, replicas: Iterable[Replica]) -> int:
    """What runs; where nothing does, what an endpoint begins with. One that may sleep is asleep."""
    scaling = state.spec.scaling
    assert scaling is not None
    if state.active is not None:
        mine = replicas_of(replicas, state.spec.name, state.active)
        running = len({r.slot for r in mine if r.is_running})
        is_asleep = scaling.min_replicas == 0 and state.spec.residency is Residency.AUTO
        if running or is_asleep:
            return running
    return begin_with(scaling, state.spec.replicas)
