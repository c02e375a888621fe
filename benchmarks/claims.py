"""What Shipway promises beside other servers, each with what was measured and whether it holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import ge, le

from measure import GRPC, REST, Run

OTHERS = ("ray", "kserve", "mlserver", "mlflow", "bentoml", "litserve")
"""Model servers with a Python front end."""

ONNX_PEERS = ("mosec", "triton", *OTHERS)
BATCHING_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One promise. `measured` is None when the run did not measure all that it speaks of."""

    text: str
    measured: float | None
    holds: Callable[[float, float], bool]
    target: float
    unit: str = ""

    @property
    def verdict(self) -> str:
        """`pass`, `FAIL`, or nothing when it was not measured."""
        if self.measured is None:
            return ""
        return "pass" if self.holds(self.measured, self.target) else "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where one figure was measured."""

    server: str
    model: str = "iris"
    protocol: str = REST
    connections: int = 32


class Results:
    """All runs of a benchmark. Figures are medians over rounds; ratios are medians of each round's."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = tuple(runs)
        self._by_spot: dict[Spot, dict[int, Run]] = {}
        for run in self.runs:
            spot = Spot(
                server=run.server, model=run.model,
                protocol=run.protocol, connections=run.connections,
            )  # fmt: skip
            self._by_spot.setdefault(spot, {})[run.round] = run

    def rounds(self, spot: Spot) -> dict[int, Run]:
        """The runs at one spot by their round; empty when it was not measured."""
        return self._by_spot.get(spot, {})

    def median(self, spot: Spot, figure: str) -> float | None:
        """The middle of a figure over the rounds; None when it was not measured."""
        runs = self.rounds(spot).values()
        return statistics.median(getattr(run, figure) for run in runs) if runs else None

    def ratio(self, spot: Spot, other: Spot, figure: str = "rps") -> float | None:
        """How many times the other's figure this one's is, in the middle of the common rounds."""
        mine, theirs = self.rounds(spot), self.rounds(other)
        ratios = [
            getattr(mine[number], figure) / getattr(theirs[number], figure)
            for number in mine.keys() & theirs.keys()
            if getattr(theirs[number], figure)
        ]
        return statistics.median(ratios) if ratios else None

    def failures(self, spot: Spot) -> int:
        """Failed requests of all rounds."""
        return sum(run.failures for run in self.rounds(spot).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Computes the claims of one benchmark. `direct_p50_ms` is iris called without any server."""

    results: Results
    direct_p50_ms: float | None

    def claims(self) -> tuple[Claim, ...]:
        """All of them, in the order of the documentation."""
        return (*self._iris(), *self._bigger(), *self._grpc(), *self._costs())

    def _iris(self) -> Iterable[Claim]:
        ours, one = Spot(server="shipway"), {"connections": 1}
        floor, pair = Spot(server="floor"), Spot(server="floor-2")
        single, floor_single = Spot(server="shipway", **one), Spot(server="floor", **one)
        ratio = self.results.ratio
        yield _at_least("iris, 32 connections: req/s of the floor's", ratio(ours, floor), 0.65)
        cpu = ratio(ours, floor, "cpu_us")
        yield _at_most("iris, 32 connections: CPU time of the floor's", cpu, 85 / 54)
        by_hand = ratio(ours, Spot(server="by-hand"))
        yield _at_least("iris: times FastAPI + joblib by hand", by_hand, 4)
        yield _at_least("iris: times mosec with scikit-learn", ratio(ours, Spot(server="mosec")), 3)
        text = "iris: times the best of Ray Serve, KServe, MLServer, MLflow, BentoML, LitServe"
        yield _at_least(text, self._over_best(ours, OTHERS), 5)
        two = ratio(Spot(server="shipway-2"), pair)
        yield _at_least("iris: two gateways of the two-process floor", two, 0.6)
        p50, p99 = (ratio(single, floor_single, figure) for figure in ("p50_ms", "p99_ms"))
        yield _at_most("iris, 1 connection: p50 of the floor's", p50, 1.5)
        yield _at_most("iris, 1 connection: p99 of the floor's", p99, 2)
        kept = ratio(ours, Spot(server="shipway-no-auth"))
        yield _at_least("iris, 32 connections: req/s without access control", kept, 0.95)
        kept = ratio(Spot(server="shipway-capture"), ours)
        yield _at_least("iris, 32 connections: req/s with all predictions captured", kept, 0.9)
        text = "iris, 32 connections: req/s with all predictions synced before their answers"
        yield _at_least(text, ratio(Spot(server="shipway-synced"), ours), 0.25)
        process = Spot(server="shipway-process")
        text = "iris, placement process: req/s of the floor's"
        yield _at_least(text, ratio(process, floor), 0.4)
        text = "iris, placement process: CPU of all processes, per request"
        yield _at_most(text, self.results.median(process, "cpu_us"), 140, " µs")

    def _bigger(self) -> Iterable[Claim]:
        forest, mlp = Spot(server="shipway", model="forest"), Spot(server="shipway", model="mlp")
        by_hand = self.results.ratio(forest, Spot(server="by-hand", model="forest"))
        yield _at_least("forest: times FastAPI + joblib by hand", by_hand, 15)
        best = self._over_best(forest, ONNX_PEERS)
        yield _at_least("forest: times the best peer, all with ONNX Runtime", best, 1.0)
        unbatched = self.results.ratio(mlp, Spot(server="floor", model="mlp"))
        yield _at_least("mlp, 32 connections, no batching: req/s of the floor's", unbatched, 0.85)
        floor = self._batched("floor")
        text = "mlp, 64 connections, adaptive batching: times the floor"
        yield _at_least(text, self._best_of_ours(floor), 1.7)
        mosec = self._batched("mosec-batching")
        text = "mlp, 64 connections: times mosec, both batching"
        yield _at_least(text, self._best_of_ours(mosec), 1.0)

    def _grpc(self) -> Iterable[Claim]:
        rest, grpc = Spot(server="shipway"), Spot(server="shipway", protocol=GRPC)
        triton = self.results.ratio(rest, Spot(server="triton"))
        yield _at_least("iris, REST: times Triton (Python backend)", triton, 2)
        targets = (("Triton (Python backend)", "triton", 2), ("MLServer", "mlserver", 2.5))
        for title, name, target in (*targets, ("KServe", "kserve", 1.1)):
            ratio = self.results.ratio(grpc, Spot(server=name, protocol=GRPC))
            yield _at_least(f"iris, gRPC, 32 calls in flight: times {title}", ratio, target)

    def _costs(self) -> Iterable[Claim]:
        one, two = Spot(server="shipway"), Spot(server="shipway-2")
        cpu = self.results.ratio(two, one, "cpu_us")
        change = None if cpu is None else abs(cpu - 1) * 100
        yield _at_most("iris: change of CPU per request with a second gateway", change, 10, " %")
        text = "memory (PSS) of control, gateway and one inline model"
        yield _at_most(text, self.results.median(one, "pss_mb"), 220, " MB")
        text = "`shipway up` to the first right answer of a registered model"
        yield _at_most(text, self.results.median(one, "ready_s"), 2.5, " s")
        hop = self.results.median(Spot(server="shipway-process", connections=1), "p50_ms")
        added = None if hop is None or self.direct_p50_ms is None else hop - self.direct_p50_ms
        text = "p50 that gateway and process hop add to calling the model in process"
        yield _at_most(text, added, 0.3, " ms")

    def _over_best(self, ours: Spot, peers: Sequence[str]) -> float | None:
        """Times the fastest of these peers, none left out."""
        spots = [Spot(server=name, model=ours.model) for name in peers]
        ratios = [self.results.ratio(ours, spot) for spot in spots]
        known = [ratio for ratio in ratios if ratio is not None]
        return min(known) if len(known) == len(peers) else None

    def _batched(self, server: str) -> Spot:
        return Spot(server=server, model="mlp", connections=BATCHING_CONNECTIONS)

    def _best_of_ours(self, other: Spot) -> float | None:
        """The better placement: which of them batches is an endpoint's own affair."""
        names = ("shipway", "shipway-process", "shipway-inline")
        ours = (self._batched(name) for name in names)
        ratios = [self.results.ratio(spot, other) for spot in ours]
        return max((ratio for ratio in ratios if ratio is not None), default=None)


def _at_least(text: str, measured: float | None, target: float, unit: str = "") -> Claim:
    return Claim(text=text, measured=measured, holds=ge, target=target, unit=unit)


def _at_most(text: str, measured: float | None, target: float, unit: str = "") -> Claim:
    return Claim(text=text, measured=measured, holds=le, target=target, unit=unit)
