"""How many weeks raise a false alarm of data quality, by number of features.

    python benchmarks/quality_weeks.py [--replays 200] [--minutes 9] [--write]

Weeks of 168 hourly looks, at a day of 480 rows each, against a baseline of 2000, in random order: all alarms are false. A tenth
of the columns is of each kind in `KINDS`. `--write` puts the table into docs/explanation/drift.md, with the weeks that there was time for.
Exits with 1 where more than 5 % of them alarm. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from time import monotonic

import numpy as np
from scipy.stats import beta, hypergeom

from drift_streams import BASELINE, MOST_FALSE, PER_HOUR, WEEK, WINDOW, write
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.summaries import ColumnSummary, Summary, summary_of
from shipway.core.profile import ColumnKind, Profile, column_profile
from shipway.core.quality import LEAST_SHARE, Claim, Fault, claims
from shipway.monitoring.tallies import MISSING, CategoryTally, NumberTally

FEATURES = (5, 50, 500)
ROWS = BASELINE + (WEEK + WINDOW) * PER_HOUR
RULES = DriftRules()
NAMES = np.array([f"name {at}" for at in range(1000)], dtype=object)


class Options(argparse.Namespace):
    replays: int
    minutes: float
    write: bool


def spoiled(
    random: np.random.Generator, values: np.ndarray, share: float, fault: float
) -> np.ndarray:
    values[random.random(len(values)) < share] = fault
    return values


def named(random: np.random.Generator, chance: np.ndarray, *, missing: float = 0.0) -> np.ndarray:
    found = NAMES[random.choice(len(chance), ROWS, p=chance / chance.sum())]
    found[random.random(ROWS) < missing] = None
    return found


KINDS = (
    lambda r: r.normal(size=ROWS),
    lambda r: named(r, np.ones(1000)),
    lambda r: spoiled(r, r.lognormal(size=ROWS), 0.03, np.nan),
    lambda r: named(r, np.array([0.7, 0.25, 0.05]), missing=0.1),
    lambda r: named(r, 1 / np.arange(1, 1001)),
    lambda r: spoiled(r, r.standard_t(2, size=ROWS), 0.02, np.inf),
    lambda r: named(r, np.ones(60)),
    lambda r: r.uniform(size=ROWS) * (r.random(ROWS) < 0.5),
    lambda r: named(r, 1 / np.arange(1, 1001) ** 2, missing=0.01),
    lambda r: r.binomial(6, 0.3, ROWS).astype(np.float64),
)
"""Where the columns come from, one after the other."""


class Column:
    """One column of a week: its baseline, and the faults of each hour."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values[BASELINE:]
        profile = Profile(rows=BASELINE, columns={"x": column_profile(values[:BASELINE])})
        self.baseline = summary_of(profile).columns["x"]
        if self.baseline.categories is not None:
            places = {name: at + 1 for at, name in enumerate(self.baseline.categories.counts)}
            self.values = np.array(
                [MISSING if v is None else places.get(v, 0) for v in self.values]
            )

    def faults(self) -> Iterator[tuple[Fault, np.ndarray]]:
        """Which rows have which fault; none of these columns is ever constant."""
        numbers, values = self.baseline.numbers, self.values
        if numbers is None:
            yield Fault.MISSING, values == MISSING
            yield Fault.NEW_CATEGORY, values == 0
            return
        yield Fault.MISSING, np.isnan(values)
        yield Fault.INFINITE, np.isinf(values)
        is_beyond = (values < numbers.edges[0]) | (values > numbers.edges[-1])
        yield Fault.OUT_OF_RANGE, np.isfinite(values) & is_beyond

    def summary(self, look: int) -> ColumnSummary:
        values = self.values[look * PER_HOUR : (look + WINDOW) * PER_HOUR]
        buckets = np.arange(len(values)) * 24 // len(values)
        if self.baseline.categories is not None:
            names = list(self.baseline.categories.counts)
            tally = CategoryTally(names, kind=ColumnKind.CATEGORICAL, buckets=24)
            tally.add(buckets, values)
            return tally.summary()
        assert self.baseline.numbers is not None
        numbers = NumberTally(self.baseline.numbers.edges, is_single=False, buckets=24)
        numbers.add(buckets, values)
        return numbers.summary()


def has_alarm(features: int, number: int) -> bool:
    """Whether any look of the week alarms."""
    random = np.random.default_rng([features, number])
    columns = [Column(KINDS[at % len(KINDS)](random)) for at in range(features)]
    usual = {(one.column, one.fault): one.usual for one in _claims(columns, 1)}
    may = np.zeros(WEEK, dtype=bool)
    for at, column in enumerate(columns):
        for fault, is_faulty in column.faults():
            may |= _may_alarm(is_faulty, usual.get((str(at), fault), 0.0), features)
    return any(claim.holds for look in np.flatnonzero(may) for claim in _claims(columns, look + 1))


def _may_alarm(is_faulty: np.ndarray, usual: float, features: int) -> np.ndarray:
    """Which looks must be judged: any column has two tests at least, so that Holm asks for half of this."""
    hourly = is_faulty.reshape(-1, PER_HOUR).sum(axis=1)
    now = np.lib.stride_tricks.sliding_window_view(hourly, WINDOW).sum(axis=-1)[1:]
    size, before = WINDOW * PER_HOUR, round(usual * BASELINE)
    may = now / size - usual >= LEAST_SHARE / 2
    may[may] = hypergeom.sf(now[may] - 1, BASELINE + size, now[may] + before, size) <= (
        RULES.alpha / features
    )
    return may


def _claims(columns: list[Column], look: int) -> tuple[Claim, ...]:
    usual = {str(at): column.baseline for at, column in enumerate(columns)}
    now = {str(at): column.summary(look) for at, column in enumerate(columns)}
    return claims(
        Summary(rows=BASELINE, columns=usual),
        Summary(rows=WINDOW * PER_HOUR, columns=now),
        rules=RULES,
    )


def table(replays: int, seconds: float) -> tuple[list[str], bool]:
    lines = [
        "| features | weeks | looks | weeks with a false alarm of data quality | 95 % interval |",
        "| ---: | ---: | ---: | ---: | --- |",
    ]
    is_good, end = True, monotonic() + seconds
    for at, features in enumerate(FEATURES):
        until = monotonic() + (end - monotonic()) / (len(FEATURES) - at)
        weeks = alarms = 0
        while weeks < replays and monotonic() < until:
            alarms += has_alarm(features, weeks)
            weeks += 1
        lines.append(f"| {features} | {cells(alarms, weeks)} |")
        is_good &= alarms / weeks <= MOST_FALSE
        print(lines[-1], flush=True)
    return lines, is_good


def cells(alarms: int, weeks: int) -> str:
    """The cells of a table: weeks, looks, weeks with an alarm, and the interval of their share."""
    low, high = _interval(alarms, weeks)
    share = f"{alarms} ({100 * alarms / weeks:.1f} %)"
    return f"{weeks} | {weeks * WEEK:,} | {share} | {100 * low:.1f} to {100 * high:.1f} %"


def _interval(hits: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's, 1934."""
    low = beta.ppf(0.025, hits, trials - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, trials - hits) if hits < trials else 1.0
    return float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=9.0, help="stop after so long")
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    options = parser.parse_args(namespace=Options())
    lines, are_few = table(options.replays, options.minutes * 60)
    if options.write:
        write("quality-weeks", lines)
    return 0 if are_few else 1


if __name__ == "__main__":
    sys.exit(main())
