"""Samples of known distributions, counted as summaries."""

from datetime import UTC, datetime, timedelta

import numpy as np

from shipway.core.drift.summaries import Summary, summary_of
from shipway.core.profile import ColumnKind, Profile, column_profile
from shipway.monitoring.tallies import CategoryTally, NumberTally

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
BUCKETS = 24
STARTS = tuple(SINCE + timedelta(hours=at) for at in range(BUCKETS))


def baseline(**columns):
    profiled = {name: column_profile(values) for name, values in columns.items()}
    rows = len(next(iter(columns.values())))
    return summary_of(Profile(rows=rows, columns=profiled))


def counted(like, **columns):
    """A summary counted as `like` is, in the order of time."""
    return Summary(
        rows=len(next(iter(columns.values()))),
        columns={name: _column(like.columns[name], values) for name, values in columns.items()},
        since=SINCE,
        until=SINCE + timedelta(hours=BUCKETS),
        starts=STARTS,
    )


def _column(like, values):
    buckets = np.arange(len(values)) * BUCKETS // len(values)
    if like.numbers:
        tally = NumberTally(like.numbers.edges, is_single=False, buckets=BUCKETS)
        tally.add(buckets, np.asarray(values, dtype=np.float64))
        return tally.summary()
    names = list(like.categories.counts)
    codes = [-1 if v is None else names.index(v) + 1 if v in names else 0 for v in values]
    tally = CategoryTally(names, kind=ColumnKind.CATEGORICAL, buckets=BUCKETS)
    tally.add(buckets, np.array(codes))
    return tally.summary()
