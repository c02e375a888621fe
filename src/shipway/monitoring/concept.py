"""Concept drift: when a version's errors became others than they were.

The detector ADWIN, of `river`, reads the errors in the order of the predictions and says that, and about since when,
they changed. What it says counts only if the errors after that moment differ from those before by enough, and
more than chance explains: a detector that looks ten thousand times finds something.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from shipway.core.evidence import Moments
from shipway.store.predictions.reading import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_BLOCKS = 100_000
"""Longer streams are read in blocks of as many errors as make so many."""

WARM_UP = 1000
"""So many blocks at the begin say how large errors of a regression are."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Quantity(StrEnum):
    """What errors are."""

    ERROR_RATE = "error_rate"
    """1 for a wrong label, 0 for a right one."""

    ABSOLUTE_ERROR = "absolute_error"
    """How far a number was off."""


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """How errors are watched.

    `delta` is ADWIN's chance of seeing what is not there. A change is one when it is of `least_effect` at
    least (of a rate absolute, of numbers as a share of the mean before), over `min_samples` errors on
    both sides, and its corrected p-value is at most `alpha`.
    """

    delta: float = 0.002
    alpha: float = 0.01
    min_samples: int = 100
    least_effect: float = 0.02


class Block(msgspec.Struct, frozen=True):
    """Errors that follow each other, from `at_us` on."""

    at_us: int
    moments: Moments


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Errors that became others: means before and after, and what `effect` that is (after less before).

    `p_value` is corrected for the number of times that was looked. `since`: from which prediction on.
    """

    what: Quantity
    before: float
    after: float
    n_before: int
    n_after: int
    p_value: float
    since: datetime

    @property
    def effect(self) -> float:
        """By how much the mean error grew; negative when it shrank."""
        return self.after - self.before


_BLOCKS = """
SELECT CAST(min(at_us) AS BIGINT), count(*), sum(size), sum(size * size) FROM (
  SELECT at_us, {size} AS size, (row_number() OVER (ORDER BY at_us, row) - 1) // {length} AS block
  FROM graded WHERE {wanted})
GROUP BY block ORDER BY block
"""


def error_stream(
    connection: DuckDBPyConnection, version: int, *, role: str = "primary"
) -> tuple[Quantity, Iterator[Block]]:
    """A version's errors in the order of its predictions, of the view `graded`; at most `MOST_BLOCKS`."""
    wanted = f"version = {int(version)} AND role = {literal(role)}"
    counted = f"SELECT count(*), count(truth) FROM graded WHERE {wanted}"
    n, labels = connection.execute(counted).fetchone() or (0, 0)
    what = Quantity.ERROR_RATE if labels else Quantity.ABSOLUTE_ERROR
    size = "CAST(truth <> predicted AS DOUBLE)" if labels else "abs(error)"
    length = max(1, -(-n // MOST_BLOCKS))
    found = connection.execute(_BLOCKS.format(size=size, length=length, wanted=wanted))
    return what, _blocks(found)


def _blocks(found: DuckDBPyConnection) -> Iterator[Block]:
    while rows := found.fetchmany(10_000):
        for at_us, n, total, squares in rows:
            yield Block(at_us, Moments(n=n, total=total, squares=squares))


def changes(what: Quantity, blocks: Sequence[Block], watch: Watch) -> tuple[Change, ...]:
    """The changes in a stream of errors, oldest first. Deterministic."""
    if not blocks:
        return ()
    cuts = [0, *_cuts(what, blocks, watch), len(blocks)]
    sums = _Sums(blocks)
    found: list[Change] = []
    start = 0
    for cut, end in pairwise(cuts[1:]):
        before, after = sums.between(start, cut), sums.between(cut, end)
        looks = len(blocks) / _LOOK_EVERY
        change = compared(what, before, after, since=_time(blocks[cut]), looks=looks)
        if _counts(change, watch):
            found.append(change)
            start = cut
    return tuple(found)


def compared(
    what: Quantity, before: Moments, after: Moments, *, since: datetime, looks: float = 1.0
) -> Change:
    """What changed between two samples of errors: a two-proportion test of rates, else Welch's.

    `looks` is how many comparisons it is one of, for Bonferroni's correction. Samples of fewer than two
    have a p-value of 1.
    """
    p_value = 1.0
    if before.n > 1 and after.n > 1:
        test = _proportions if what is Quantity.ERROR_RATE else _welch
        p_value = min(1.0, test(before, after) * max(1.0, looks))
    return Change(
        what=what,
        before=before.mean,
        after=after.mean,
        n_before=before.n,
        n_after=after.n,
        p_value=p_value,
        since=since,
    )


def recent_against_baseline(
    connection: DuckDBPyConnection, version: int, since: datetime, *, role: str = "primary"
) -> Change:
    """The errors of predictions from `since` on against those before."""
    what, blocks = error_stream(connection, version, role=role)
    listed = list(blocks)
    after = sum(1 for block in listed if _time(block) >= since)
    sums, cut = _Sums(listed), len(listed) - after
    return compared(what, sums.between(0, cut), sums.between(cut, len(listed)), since=since)


_LOOK_EVERY = 32
"""ADWIN compares its windows each time after so many values."""


def _cuts(what: Quantity, blocks: Sequence[Block], watch: Watch) -> Iterator[int]:
    """The positions at which the detector says that something new began, growing."""
    means = np.array([block.moments.mean for block in blocks])
    scale = 1.0 if what is Quantity.ERROR_RATE else 4 * float(means[:WARM_UP].mean()) or 1.0
    start, detector = 0, _detector(watch)
    # ADWIN's bound is for values of 0 to 1.
    for place, value in enumerate(np.minimum(means / scale, 1.0).tolist()):
        detector.update(value)
        if detector.drift_detected:
            # Where it cut is coarse: ADWIN drops its oldest values bit by bit.
            start += _split(means[start : place + 1])
            yield start
            detector = _detector(watch)


def _detector(watch: Watch) -> Any:
    """Adaptive windowing (Bifet and Gavaldà, SDM 2007)."""
    from river import drift

    return drift.ADWIN(delta=watch.delta, clock=_LOOK_EVERY)


def _split(means: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
    """Where the means before and after differ most for their number: the likeliest change of a level."""
    n = len(means)
    if n < 2:
        return 0
    places = np.arange(1, n)
    sums = np.cumsum(means)[:-1]
    gaps = np.abs(sums - places / n * means.sum()) / np.sqrt(places * (n - places))
    return int(np.argmax(gaps)) + 1


class _Sums:
    """Moments of any run of blocks, by running sums."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        rows = [(b.moments.n, b.moments.total, b.moments.squares) for b in blocks]
        self._sums = np.cumsum([(0.0, 0.0, 0.0), *rows], axis=0)

    def between(self, start: int, end: int) -> Moments:
        """The moments of blocks `start` to before `end`."""
        n, total, squares = self._sums[end] - self._sums[start]
        return Moments(n=int(n), total=float(total), squares=float(squares))


def _counts(change: Change, watch: Watch) -> bool:
    scale = 1.0 if change.what is Quantity.ERROR_RATE else abs(change.before)
    return (
        min(change.n_before, change.n_after) >= watch.min_samples
        and abs(change.effect) >= watch.least_effect * scale
        and change.p_value <= watch.alpha
    )


def _proportions(one: Moments, other: Moments) -> float:
    """The two-sided p-value of the two-proportion z-test, pooled."""
    from scipy.stats import norm

    pooled = (one.total + other.total) / (one.n + other.n)
    spread = pooled * (1 - pooled) * (1 / one.n + 1 / other.n)
    if spread <= 0:
        return 1.0
    return float(2 * norm.sf(abs(other.mean - one.mean) / sqrt(spread)))


def _welch(one: Moments, other: Moments) -> float:
    """The two-sided p-value of Welch's t-test (Biometrika 34, 1947)."""
    from scipy.stats import t

    a, b = one.variance / one.n, other.variance / other.n
    if a + b <= 0:
        return 1.0 if one.mean == other.mean else 0.0
    freedom = (a + b) ** 2 / (a * a / (one.n - 1) + b * b / (other.n - 1))
    return float(2 * t.sf(abs(other.mean - one.mean) / sqrt(a + b), freedom))


def _time(block: Block) -> datetime:
    return _EPOCH + timedelta(microseconds=block.at_us)
