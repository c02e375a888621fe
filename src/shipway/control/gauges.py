"""What is seen of replicas and processes at each look, summed up until it is written into the history.

A gauge is kept as the sum over the looks and their number, so that its mean over any period is exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from shipway.control.gpus import Gpus
from shipway.control.telemetry import GatewayUse
from shipway.control.views import Seen
from shipway.core.measures import LOOKS, MEASURED, SAMPLES
from shipway.core.observed import Desired, Observed
from shipway.core.replicas import Replica, ReplicaState
from shipway.core.tallies import Tally, added
from shipway.core.telemetry import Name
from shipway.core.versions import VersionRef
from shipway.wire.processes import Use, use_of

LOOK_EVERY_S = 2.0

SERVER: Name = ("", "")
"""The name of what concerns no endpoint: the processes of Shipway itself."""

UseOf = Callable[[int], Use | None]

_ON_THE_WAY = (ReplicaState.BUILDING, ReplicaState.STARTING)


class Gauges:
    """Looks again and again. Not for threads, but for one at a time.

    `exits` of replicas are counted since this process began.
    """

    def __init__(self, *, use: UseOf = use_of, gpus: Gpus | None = None) -> None:
        self._use = use
        self._gpus = gpus or Gpus()
        self._sums: dict[Name, dict[str, float]] = {}
        self._cpu_s: dict[object, float] = {}
        self.exits: dict[Name, int] = {}
        self._ids: set[str] | None = None
        self._exited: set[str] = set()

    def look(
        self, seen: Seen, gateways: Mapping[tuple[str, int], GatewayUse], *, steady_s: float
    ) -> None:
        """Adds what is seen now. `gateways` is what their processes take, by gateway and number."""
        seen_cpu_s: dict[object, float] = {}
        for name, tally in self._of_replicas(seen.observed, seen_cpu_s):
            self._add(name, tally)
        for name, tally in _of_endpoints(seen):
            self._add(name, tally)
        self._add(SERVER, self._of_server(gateways, seen_cpu_s, steady_s))
        self._cpu_s = seen_cpu_s
        replicas = seen.observed.replicas
        self._ids = {replica.id for replica in replicas}
        self._exited = {r.id for r in replicas if r.state is ReplicaState.EXITED}

    def gpu_use(self) -> float | None:
        """The use (0 to 1) of this machine's GPUs now, in the mean; None without any. Blocks."""
        found = self._gpus.look()
        return found["gpu_pct"] / found["gpus"] / 100 if found else None

    def taken(self) -> Mapping[Name, Tally]:
        """What was seen since `drop` was called last."""
        return self._sums

    def drop(self) -> None:
        """Forgets what was taken, once it is written."""
        self._sums = {}

    def _add(self, name: Name, tally: Tally) -> None:
        self._sums[name] = added((self._sums.get(name, {}), tally))

    def _of_replicas(
        self, observed: Observed, seen_cpu_s: dict[object, float]
    ) -> Iterator[tuple[Name, Tally]]:
        for name, group in groupby(sorted(observed.replicas, key=_name), key=_name):
            mine = list(group)
            exits = {r.id for r in mine if r.state is ReplicaState.EXITED} - self._exited
            # What had exited before this process began was counted by the one before it.
            ended = len(exits) if self._ids is not None else 0
            self.exits[name] = self.exits.get(name, 0) + ended
            uses = [self._use_of(r, seen_cpu_s) for r in mine]
            yield (
                name,
                {
                    "starting": sum(r.state in _ON_THE_WAY for r in mine),
                    "memory_kib": sum(round(r.memory_mb * 1024) for r in mine if r.is_running),
                    "cpu_ms": sum(uses),
                    MEASURED: float(any(r.pid is not None and r.is_running for r in mine)),
                    "exits": ended,
                },
            )

    def _use_of(self, replica: Replica, seen_cpu_s: dict[object, float]) -> int:
        """Milliseconds of processor time since the last look; of a new process, since it began."""
        if replica.pid is None or not replica.is_running:
            return 0
        use = self._use(replica.pid)
        if use is None:
            return 0
        is_new = self._ids is not None and replica.id not in self._ids
        return self._grown_ms(replica.id, use.cpu_s, seen_cpu_s, is_new=is_new)

    def _grown_ms(
        self, key: object, cpu_s: float, seen_cpu_s: dict[object, float], *, is_new: bool
    ) -> int:
        seen_cpu_s[key] = cpu_s
        before_s = self._cpu_s.get(key, 0.0 if is_new else cpu_s)
        return max(0, round(cpu_s * 1000) - round(before_s * 1000))

    def _of_server(
        self,
        gateways: Mapping[tuple[str, int], GatewayUse],
        seen_cpu_s: dict[object, float],
        steady_s: float,
    ) -> Tally:
        own = self._use(os.getpid()) or Use(cpu_s=0.0, memory_bytes=0)
        alive = {k: use for k, use in gateways.items() if use.heard_s > steady_s - 2 * _HEARD_S}
        grown = [
            self._grown_ms(key, use.cpu_s, seen_cpu_s, is_new=False) for key, use in alive.items()
        ]
        return {
            LOOKS: 1,
            "control_cpu_ms": self._grown_ms("control", own.cpu_s, seen_cpu_s, is_new=False),
            "control_memory_kib": own.memory_bytes // 1024,
            "gateways": len(alive),
            "gateway_cpu_ms": sum(grown),
            "gateway_memory_kib": sum(use.memory_bytes // 1024 for use in alive.values()),
            **self._gpus.look(),
        }


_HEARD_S = 2.0
"""So often a living gateway says what it takes."""


def _of_endpoints(seen: Seen) -> Iterator[tuple[Name, Tally]]:
    for endpoint, one in seen.decided.items():
        if not one.is_asleep:
            yield (endpoint, ""), {LOOKS: 1}
        for version in one.facts:
            yield (endpoint, str(version)), _of_version(one, version, seen)


def _of_version(one: Desired, version: VersionRef, seen: Seen) -> Tally:
    key = (one.state.spec.name, str(version))
    said = (gateway.variants.get(key) for gateway in seen.observed.gateways)
    return {
        SAMPLES: 1,
        "in_flight": sum(evidence.in_flight for evidence in said if evidence is not None),
        "ready": seen.observed.ready(one, version),
    }


def _name(replica: Replica) -> Name:
    return replica.endpoint, str(replica.version)
