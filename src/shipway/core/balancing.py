"""Which replica gets a request, and which one is left out for a while.

The choice: of two replicas drawn at random, the one with less work ("the power of two choices",
Mitzenmacher, IEEE TPDS 12(10), 2001). Looking at all would send everybody to the same one.

The ejection: a replica that does far worse than its peers leaves the choice for a growing time, and
comes back on trial. It is compared with its peers and never with a fixed number, so that a model that
fails everywhere ejects nobody; and never more than half are out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import Enum

import msgspec

OUT_MIN_S = 1.0
"""The first ejection takes so long; each further one twice as long."""

OUT_MAX_S = 60.0
FORGIVEN_S = 60.0
"""A replica that did well for so long starts again with the shortest ejection."""

ENOUGH = 10
"""Answers on both sides before latencies are compared."""

TRIAL_ANSWERS = 3
"""Good answers, one at a time, that end a trial."""

SHARE_MARGIN = 0.2
"""Failures must be more frequent than the peers' by so much, and by three standard errors."""

SLOW_FACTOR = 5.0
SLOW_MARGIN_S = 0.05
"""Latency must be so many times the peers', and longer by so much."""

_FADE = 0.8


class Phase(Enum):
    """Whether a replica takes part in the choice."""

    IN = "in"
    """As any other."""

    OUT = "out"
    """It gets nothing, until its time is over."""

    TRIAL = "trial"
    """It gets one request at a time, until a few were answered well or one was not."""


class Verdict(Enum):
    """What the statistics of a replica say."""

    WELL = "well"
    WORSE = "worse"
    UNKNOWN = "unknown"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replica stands. `until` ends an ejection, or forgives the `strikes` of one that is in."""

    phase: Phase = Phase.IN
    until: float = 0.0
    strikes: int = 0


NEXT: Mapping[tuple[Phase, Verdict], Phase] = {
    (Phase.IN, Verdict.WELL): Phase.IN,
    (Phase.IN, Verdict.UNKNOWN): Phase.IN,
    (Phase.IN, Verdict.WORSE): Phase.OUT,
    (Phase.TRIAL, Verdict.WELL): Phase.IN,
    (Phase.TRIAL, Verdict.UNKNOWN): Phase.TRIAL,
    (Phase.TRIAL, Verdict.WORSE): Phase.OUT,
    (Phase.OUT, Verdict.WELL): Phase.OUT,
    (Phase.OUT, Verdict.UNKNOWN): Phase.OUT,
    (Phase.OUT, Verdict.WORSE): Phase.OUT,
}
"""The phase after a verdict. OUT ends by time alone, and always in TRIAL."""


class Tally:
    """What a replica did lately; older events count for less (`fade`).

    `lost` says that its connection ended, or that it answered no ping.
    """

    __slots__ = ("answered", "failed", "log_s", "lost")

    def __init__(self) -> None:
        self.answered = 0.0
        self.failed = 0.0
        self.log_s = 0.0
        self.lost = False

    def note_answer(self, seconds: float) -> None:
        """Counts an answer that took so long."""
        self.answered += 1
        self.log_s += math.log(max(seconds, 1e-6))

    def note_failure(self) -> None:
        """Counts a request that the replica failed: it was lost, timed out, or the model raised."""
        self.failed += 1

    @property
    def total(self) -> float:
        """How many requests are counted."""
        return self.answered + self.failed

    @property
    def typical_s(self) -> float:
        """The geometric mean of the latencies, on which one long request has little influence."""
        return math.exp(self.log_s / self.answered) if self.answered else 0.0

    def fade(self) -> None:
        """Makes what was counted so far weigh less; called once a second, it halves in three."""
        self.answered *= _FADE
        self.failed *= _FADE
        self.log_s *= _FADE
        self.lost = False

    def clear(self) -> None:
        """Forgets everything."""
        self.answered = self.failed = self.log_s = 0.0
        self.lost = False

    def add(self, other: Tally) -> None:
        """Counts what the other counted, too."""
        self.answered += other.answered
        self.failed += other.failed
        self.log_s += other.log_s


def two_of(count: int, dice: float) -> tuple[int, int]:
    """Two different places of `count` (at least 2), each ordered pair as likely as any other.

    `dice` is uniform in [0, 1).
    """
    first, second = divmod(min(int(dice * count * (count - 1)), count * (count - 1) - 1), count - 1)
    return first, second + (second >= first)


def others_work(queued: int, outstanding: int) -> int:
    """How much of a replica's queue is other gateways': what it tells beyond what is ours."""
    return max(0, queued - outstanding)


def most_out(count: int) -> int:
    """How many of so many replicas may be out at once."""
    return count // 2


def verdict(phase: Phase, own: Tally, peers: Tally) -> Verdict:
    """What a replica's tally says beside the tally of its peers together.

    Failures are compared by the two-proportion z-test: with shares p1 = 9/10 and p2 = 1/100, pooled
    p = 10/110, the standard error is sqrt(p (1 - p) (1/10 + 1/100)) = 0.095, and 0.89 is more than
    three of it.
    """
    if own.lost:
        return Verdict.WORSE
    if phase is Phase.TRIAL:
        if _fails_on_trial(own, peers) or _is_slow(own, peers, enough=TRIAL_ANSWERS):
            return Verdict.WORSE
        return Verdict.WELL if own.total >= TRIAL_ANSWERS else Verdict.UNKNOWN
    if _fails_more(own, peers) or _is_slow(own, peers, enough=ENOUGH):
        return Verdict.WORSE
    return Verdict.WELL if own.total else Verdict.UNKNOWN


def _fails_more(own: Tally, peers: Tally) -> bool:
    if not own.failed or not peers.total:
        return False
    pooled = (own.failed + peers.failed) / (own.total + peers.total)
    error = math.sqrt(pooled * (1 - pooled) * (1 / own.total + 1 / peers.total))
    difference = own.failed / own.total - peers.failed / peers.total
    return difference > max(SHARE_MARGIN, 3 * error)


def _fails_on_trial(own: Tally, peers: Tally) -> bool:
    if not own.failed or not peers.total:
        return False
    return own.failed / own.total > 2 * peers.failed / peers.total + SHARE_MARGIN


def _is_slow(own: Tally, peers: Tally, *, enough: int) -> bool:
    if own.answered < enough or peers.answered < ENOUGH:
        return False
    limit_s = max(SLOW_FACTOR * peers.typical_s, peers.typical_s + SLOW_MARGIN_S)
    return own.typical_s > limit_s


def judged(
    standings: Mapping[str, Standing], tallies: Mapping[str, Tally], now: float
) -> dict[str, Standing]:
    """The standings after a look at the tallies; both are by replica.

    Where more would be out than may be, those stay in that did so before and can be reached, and
    then those whose ejection ends first.
    """
    after = {
        name: _moved(standing, _verdict_on(name, standings, tallies), now)
        for name, standing in standings.items()
    }
    out = [name for name, standing in after.items() if standing.phase is Phase.OUT]
    out.sort(
        key=lambda name: (
            standings[name].phase is Phase.OUT,
            tallies[name].lost,
            after[name].until,
            name,
        )
    )
    for name in out[: max(0, len(out) - most_out(len(after)))]:
        was_out = standings[name].phase is Phase.OUT
        after[name] = _tried(after[name]) if was_out else standings[name]
    return after


def _verdict_on(
    name: str, standings: Mapping[str, Standing], tallies: Mapping[str, Tally]
) -> Verdict:
    standing = standings[name]
    if standing.phase is Phase.OUT:
        return Verdict.UNKNOWN
    others = (
        tallies[other]
        for other, its in standings.items()
        if other != name and its.phase is Phase.IN
    )
    return verdict(standing.phase, tallies[name], _together(others))


def _together(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def _moved(standing: Standing, said: Verdict, now: float) -> Standing:
    if standing.phase is Phase.OUT and now >= standing.until:
        return _tried(standing)
    phase = NEXT[standing.phase, said]
    if phase is standing.phase:
        return _forgiven(standing, now)
    if phase is Phase.OUT:
        out_s = min(OUT_MAX_S, OUT_MIN_S * 2 ** min(standing.strikes, 16))
        return Standing(phase=phase, until=now + out_s, strikes=standing.strikes + 1)
    return Standing(phase=phase, until=now + FORGIVEN_S, strikes=standing.strikes)


def _tried(standing: Standing) -> Standing:
    return Standing(phase=Phase.TRIAL, strikes=standing.strikes)


def _forgiven(standing: Standing, now: float) -> Standing:
    if standing.phase is Phase.IN and standing.strikes and now >= standing.until:
        return Standing()
    return standing
