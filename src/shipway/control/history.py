"""The metric history: what was counted, in windows in the database.

Each tick is one transaction: it adds what every source has counted since the last tick to the windows,
and notes how far the source is in them. So nothing is counted twice or lost, whoever is killed when, and
several controls may write. What happened while no control was there is in the window after the last one
that it wrote: counts of an hour ago must not look like those of now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from shipway.control.telemetry import Counts, Telemetry
from shipway.core.errors import InvalidRequest
from shipway.core.measures import measure_of, value_of
from shipway.core.resolutions import (
    FINE,
    RESOLUTIONS,
    Stretch,
    ceiling,
    floor,
    step_for,
    stretches,
)
from shipway.core.tallies import Tally, added, grown
from shipway.core.telemetry import Name
from shipway.store.sql.database import Database, Transaction

GAP = timedelta(seconds=60)
"""Without a window for so long, control was away; for so long after its return, sources tell of that time."""

MOST_POINTS = 5_000
"""A series may have so many points."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of the time from `at` on, for as long as the series' step. None: it does not say."""

    at: datetime
    value: float | None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Points of a measure, oldest first; `step_s` apart."""

    step_s: int
    points: tuple[Point, ...]


Period = Callable[[str, str], float | None]
"""A measure of an endpoint in a period, by their names; None where the period does not say.

Blocks. Raises as `Measures.measure`.
"""


class Measures(Protocol):
    """Where measures of the past come from: the database, or a Prometheus."""

    def measure(
        self, name: str, endpoint: str, *, version: str = "", since: datetime, until: datetime
    ) -> float | None:
        """A measure of a period, of one version or of all; None where the period does not say.

        Blocks. Raises InvalidRequest for a name that no measure has, and a DependencyError when what
        is asked is away.
        """
        ...

    def period(self, *, since: datetime, until: datetime) -> Period:
        """The measures of all endpoints in a period: for who asks for those of many.

        Blocks. Raises a DependencyError when what is asked is away.
        """
        ...

    def series(
        self,
        name: str,
        endpoint: str,
        *,
        version: str = "",
        since: datetime,
        until: datetime,
        step_s: float,
    ) -> Series:
        """The measure of each `step_s` of a period, or of longer steps where they are kept no finer.

        Blocks. Raises as `measure`, and InvalidRequest for more than `MOST_POINTS` points.
        """
        ...


class History:
    """Writes and reads the windows of one environment. Thread-safe; all methods block."""

    def __init__(
        self,
        database: Database,
        telemetry: Telemetry,
        *,
        environment: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._telemetry = telemetry
        self._environment = environment
        self._clock = clock
        self._written: dict[str, Counts] = {}
        self._began_at: datetime | None = None
        self._late: datetime | None = None

    def write(self, gauges: Mapping[Name, Tally], *, at: datetime) -> None:
        """Adds what is new to the windows that `at` is in: one transaction, whatever there is to add.

        Raises:
            StoreUnavailable: nothing was added; the counts come with the next call, gauges if given again.
        """
        newest = self._telemetry.newest()
        changed = {s: c for s, c in newest.items() if c != self._written.get(s)}
        if not changed and not gauges:
            return
        with self._database.transaction() as tx:
            began_at, late = self._began(tx, at)
            is_late = late is not None and at - began_at < GAP
            missed: list[Mapping[Name, Tally]] = []
            news: list[Mapping[Name, Tally]] = [gauges]
            for source, counts in changed.items():
                is_first = source not in self._written
                taken = self._taken(tx, source, counts, at)
                (missed if is_first and is_late else news).append(taken)
            tx.metrics.add(self._environment, _merged(news), at=at)
            if late is not None:
                tx.metrics.add(self._environment, _merged(missed), at=late)
        self._written = newest
        self._began_at, self._late = began_at, late

    def _began(self, tx: Transaction, at: datetime) -> tuple[datetime, datetime | None]:
        """When this one began to write, and when nobody wrote any more before; None where somebody did."""
        if self._began_at is not None:
            return self._began_at, self._late
        last = tx.metrics.last_written(self._environment)
        if last is None or at - last < GAP:
            return at, None
        return at, last + timedelta(seconds=FINE.step_s)

    def prune(self, now: datetime) -> int:
        """Drops what is no longer kept; how many rows.

        Raises:
            StoreUnavailable: nothing was dropped.
        """
        with self._database.transaction() as tx:
            return tx.metrics.prune(self._environment, now)

    def measure(
        self, name: str, endpoint: str, *, version: str = "", since: datetime, until: datetime
    ) -> float | None:
        """See `Measures`. The ends of the period are moved as `core.resolutions.stretches` says.

        Where that makes it another period, by more than a twentieth, counts are those of the one asked for, as if
        what was counted had come evenly.

        Raises:
            InvalidRequest: no measure has that name.
            StoreUnavailable: the database is away.
        """
        measure_of(name, endpoint)
        parts = stretches(since, until, self._clock())
        with self._database.reading() as tx:
            tally = added(
                tally
                for part in parts
                for _, _, tally in tx.metrics.windows(
                    self._environment, part, endpoint=endpoint, version=version
                )
            )
        return _value_in(parts, name, tally, (until - since).total_seconds())

    def period(self, *, since: datetime, until: datetime) -> Period:
        """See `Measures`, and `measure` for the ends of the period. Reads all that was counted in it.

        Raises:
            StoreUnavailable: the database is away.
        """
        parts = stretches(since, until, self._clock())
        with self._database.reading() as tx:
            totals = tx.metrics.totals(self._environment, parts)

        def measured(name: str, endpoint: str) -> float | None:
            measure_of(name, endpoint)
            tally = totals.get(endpoint, {})
            return _value_in(parts, name, tally, (until - since).total_seconds())

        return measured

    def series(
        self,
        name: str,
        endpoint: str,
        *,
        version: str = "",
        since: datetime,
        until: datetime,
        step_s: float,
    ) -> Series:
        """See `Measures`. The first and the last step are whole ones, too, but for one that is under way.

        Raises:
            InvalidRequest: no measure has that name, or there would be too many points.
            StoreUnavailable: the database is away.
        """
        measure_of(name, endpoint)
        now = self._clock()
        step = step_for(step_s, since, now)
        stretch = _whole(step, since, until)
        with self._database.reading() as tx:
            windows = tx.metrics.windows(
                self._environment, stretch, endpoint=endpoint, version=version
            )
        parts: dict[datetime, list[Tally]] = {}
        for _, at, tally in windows:
            parts.setdefault(floor(at, step), []).append(tally)
        end = min(stretch.until, FINE.start_of(now))
        points = tuple(
            Point(at=at, value=value_of(name, added(parts.get(at, ())), _lasts_s(at, step, end)))
            for at in _starts(step, stretch, end)
        )
        return Series(step_s=step, points=points)

    def recent(self, seconds: float) -> list[tuple[Name, datetime, dict[str, float]]]:
        """The finest windows of all endpoints in the last seconds, up to 2 hours."""
        until = FINE.start_of(self._clock())
        since = FINE.start_of(until - timedelta(seconds=min(seconds, FINE.keep_s)))
        stretch = Stretch(step_s=FINE.step_s, since=since, until=until)
        with self._database.reading() as tx:
            return tx.metrics.windows(self._environment, stretch, endpoint=None, version="")

    def _taken(
        self, tx: Transaction, source: str, counts: Counts, at: datetime
    ) -> dict[Name, dict[str, float]]:
        """What a source has counted that is in no window yet, which it is from now on."""
        known = tx.metrics.counted(self._environment, source)
        news: dict[Name, dict[str, float]] = {}
        for name, tally in counts.items():
            new = grown(known.get(name, {}), tally)
            if new is None:
                self._telemetry.expect(source, name, known[name])
            elif new:
                news[name] = new
        counted = {name: counts[name] for name in news}
        tx.metrics.put_counted(self._environment, source, counted, at=at)
        return news


def _value_in(parts: Sequence[Stretch], name: str, tally: Tally, asked_s: float) -> float | None:
    """The measure of what was counted in those parts of the history, for a period of so many seconds."""
    seconds = sum((part.until - part.since).total_seconds() for part in parts)
    if seconds and abs(seconds - asked_s) > max(FINE.step_s, asked_s / 20):
        tally, seconds = {n: count * asked_s / seconds for n, count in tally.items()}, asked_s
    return value_of(name, tally, seconds)


def _merged(parts: list[Mapping[Name, Tally]]) -> dict[Name, dict[str, float]]:
    names = {name for part in parts for name in part}
    return {name: added(part[name] for part in parts if name in part) for name in names}


def _whole(step_s: int, since: datetime, until: datetime) -> Stretch:
    """The period in whole steps, read in the coarsest windows that make them up.

    Raises:
        InvalidRequest: they are too many.
    """
    start = floor(since, step_s)
    if (until - start).total_seconds() / step_s > MOST_POINTS:
        raise InvalidRequest(
            f"A series has at most {MOST_POINTS:,} points.",
            next_step="Ask for a shorter period, or a longer `step`.",
            path="step",
        )
    finest = max(one.step_s for one in RESOLUTIONS if step_s % one.step_s == 0)
    return Stretch(step_s=finest, since=start, until=ceiling(until, step_s))


def _starts(step_s: int, stretch: Stretch, end: datetime) -> list[datetime]:
    count = -(-int((end - stretch.since).total_seconds()) // step_s)
    return [stretch.since + timedelta(seconds=step_s * place) for place in range(count)]


def _lasts_s(at: datetime, step_s: int, end: datetime) -> float:
    """How long a step is: the last one may still be under way."""
    return min(float(step_s), (end - at).total_seconds())
