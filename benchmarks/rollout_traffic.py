"""Simulated traffic of two versions, as gateways would count it. Time is simulated; nothing runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, log, sqrt

import numpy as np

from shipway.core.evidence import Account, Buckets, Pairs, TrialReport, bucket_of, edge
from shipway.core.positions import Position
from shipway.core.stalls import LEFT_OUT

TICK_S = 0.5
Counts = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How a version answers. Shares are of its requests; `timeouts` fail, as they come too late."""

    errors: float = 0.001
    rejected: float = 0.0
    timeouts: float = 0.0
    median_s: float = 0.02
    spread: float = 0.5
    slow_share: float = 0.0
    labels: tuple[float, ...] = (0.6, 0.3, 0.1)
    score: float = 0.0
    """The mean of the scores' log odds; their deviation is 1.5."""
    agreement: float = 0.98


@dataclass(frozen=True, kw_only=True)
class World:
    """What both versions live in.

    `callers`: so many, who send unequally much and ask unlike things, are assigned whole; 0: each request
    by itself. Shared bursts make latencies of both versions eight times and errors ten times what
    they are, for two seconds once a minute; each version stalls for a second by itself now and then.
    """

    rate_per_s: float = 300.0
    callers: int = 0
    bursts_per_s: float = 1 / 60
    stalls_per_s: float = 1 / 120


class Arm:
    """One version's account, in arrays."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.low = bucket_of(behaviour.median_s) - 80
        self.chances = _latency(behaviour, self.low)
        self.scores_low, self.score_chances = _scores(behaviour.score)
        self.reset(np.array(behaviour.labels))

    def reset(self, labels: Counts) -> None:
        self.labels_chances = labels
        self.answered = self.failed = self.rejected = 0
        self.latency = np.zeros(len(self.chances), int)
        self.labels = np.zeros(len(labels), int)
        self.scores = np.zeros(len(self.score_chances), int)
        self.seconds: list[Counts] = []
        self.present = np.zeros_like(self.latency)

    def serve(self, count: int, rng: np.random.Generator, *, slower: int, errors: float) -> None:
        lost = errors + self.behaviour.timeouts
        failed = int(rng.binomial(count, min(lost, 1.0)))
        rejected = int(rng.binomial(count - failed, self.behaviour.rejected))
        answered = count - failed - rejected
        late = np.roll(rng.multinomial(answered, self.chances), slower)
        self.answered += answered
        self.failed += failed
        self.rejected += rejected
        self.latency += late
        self.present += late
        self.labels += rng.multinomial(answered, self.labels_chances)
        self.scores += rng.multinomial(answered, self.score_chances)

    def end_second(self) -> None:
        if self.present.any():
            self.seconds.append(self.present)
            self.seconds.sort(key=_mean, reverse=True)
            del self.seconds[LEFT_OUT:]
        self.present = np.zeros_like(self.latency)

    def account(self) -> Account:
        return Account(
            answered=self.answered,
            failed=self.failed,
            rejected=self.rejected,
            latency=_buckets(self.latency, self.low),
            slowest=_buckets(sum(self.seconds, self.present), self.low),
            labels={f"label-{n}": int(c) for n, c in enumerate(self.labels) if c},
            scores=_buckets(self.scores, self.scores_low),
        )


class Traffic:
    """Both versions in one world, step by step of a rollout."""

    def __init__(
        self, world: World, primary: Behaviour, candidate: Behaviour, rng: np.random.Generator
    ) -> None:
        self.world, self.rng = world, rng
        self.primary, self.candidate = Arm(primary), Arm(candidate)
        self.exposed = 0
        sent = np.arange(1, world.callers + 1) ** -0.8
        self._shares = sent / max(sent.sum(), 1e-9)
        self._places = rng.random(world.callers) * 100
        self._tastes = rng.dirichlet(3 * np.array(primary.labels), world.callers)
        self._burst_s = 0.0

    def begin(self, position: Position) -> None:
        """A new step: gateways count anew."""
        self._position, self._tick = position, 0
        self._share = position.weight_pct / 100
        mixes = [np.array(arm.behaviour.labels) for arm in (self.primary, self.candidate)]
        if self.world.callers and 0 < position.weight_pct < 100:
            mine = self._places < position.weight_pct
            self._share = float(self._shares[mine].sum())
            mixes = [self._mix(~mine), self._mix(mine)]
        self.primary.reset(mixes[0])
        self.candidate.reset(mixes[1])
        self._compared = self._agreed = 0

    def _mix(self, chosen: Counts) -> Counts:
        if not chosen.any():
            return np.array(self.primary.behaviour.labels)
        mix = self._shares[chosen] @ self._tastes[chosen]
        return mix / mix.sum()

    def tick(self) -> None:
        """Half a second of requests."""
        rng, world = self.rng, self.world
        self._burst_s = max(0.0, self._burst_s - TICK_S)
        if rng.random() < world.bursts_per_s * TICK_S:
            self._burst_s = 2.0
        count = int(rng.poisson(world.rate_per_s * TICK_S))
        if self._position.mirror_pct:
            mine, beside = int(rng.binomial(count, self._position.mirror_pct / 100)), count
            self._compared += mine
            self._agreed += int(rng.binomial(mine, self.candidate.behaviour.agreement))
        else:
            mine = int(rng.binomial(count, self._share))
            beside = count - mine
        self.exposed += mine
        self._tick += 1
        for arm, served in ((self.primary, beside), (self.candidate, mine)):
            self._serve(arm, served)
            if self._tick % 2 == 0:
                arm.end_second()

    def _serve(self, arm: Arm, count: int) -> None:
        if self._tick % 2 == 1:
            arm.stalled = self.rng.random() < self.world.stalls_per_s
        slower = _EIGHTFOLD if self._burst_s or arm.stalled else 0
        errors = arm.behaviour.errors * (10 if self._burst_s else 1)
        arm.serve(count, self.rng, slower=slower, errors=errors)

    def report(self, epoch: int) -> TrialReport:
        return TrialReport(
            rollout="r",
            epoch=epoch,
            primary=self.primary.account(),
            candidate=self.candidate.account(),
            pairs=Pairs(compared=self._compared, agreed=self._agreed),
        )


_EIGHTFOLD = round(log(8) / log(1.05))


def _latency(behaviour: Behaviour, low: int) -> Counts:
    """The chance of each bucket for log-normal seconds, a share of them ten times as slow."""
    edges = np.array([edge(low + at) for at in range(260)])
    upto = _normal((np.log(edges) - log(behaviour.median_s)) / behaviour.spread)
    slow = _normal((np.log(edges) - log(10 * behaviour.median_s)) / behaviour.spread)
    share = behaviour.slow_share
    return _chances((1 - share) * upto + share * slow)


def _scores(mean: float) -> tuple[int, Counts]:
    """The chance of each bucket for probabilities whose log odds are normal."""
    low, high = bucket_of(0.002), bucket_of(1.0)
    edges = np.array([min(edge(at), 1 - 1e-9) for at in range(low, high + 1)])
    return low, _chances(_normal((np.log(edges / (1 - edges)) - mean) / 1.5))


def _normal(at: Counts) -> Counts:
    return np.array([0.5 * (1 + erf(one / sqrt(2))) for one in at])


def _chances(upto: Counts) -> Counts:
    chances = np.diff(upto, prepend=0.0)
    return chances / chances.sum()


def _mean(counts: Counts) -> float:
    return float(counts @ _WEIGHTS[: len(counts)] / counts.sum())


_WEIGHTS = 1.05 ** np.arange(260)


def _buckets(counts: Counts, low: int) -> Buckets:
    at = np.flatnonzero(counts)
    return dict(zip((at + low).tolist(), counts[at].tolist(), strict=True))
