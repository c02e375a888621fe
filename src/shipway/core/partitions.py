"""The files of the prediction log, which of them to merge, and which to let go. Pure decisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from enum import StrEnum

import msgspec

KEEP_DAYS = 30
"""So long the log is kept where an endpoint says nothing else."""

LARGE_BYTES = 64 * 1024 * 1024
"""A file of this size is not merged any more."""

TOGETHER = 8
"""So many files of about the same size are merged, while their day goes on."""

MOST_TOGETHER = 1000
"""More are merged in several steps."""

LATE = timedelta(hours=6)
"""A day's files are merged to the last once it has been over for so long: gateways may be late."""


class Contents(StrEnum):
    """What the rows of a file are."""

    PREDICTIONS = "prediction"
    FEEDBACK = "feedback"


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file of the log.

    Its rows are of one version (0 for feedback) and one `day` (UTC; the day on which it came in where
    that is earlier, and for feedback), between `since` and `until`, both included. `shape` is the
    hash of the `Shape` of its predictions, empty for feedback. `keep_days` is what the endpoint said when it was written.
    """

    path: str
    contents: Contents
    environment: str
    endpoint: str
    model: str = ""
    version: int = 0
    day: date
    rows: int
    size_bytes: int
    since: datetime
    until: datetime
    shape: str = ""
    keep_days: int = KEEP_DAYS


def merges(partitions: Iterable[Partition], now: datetime) -> Iterator[tuple[Partition, ...]]:
    """What to merge into one file each: files of the same rows, oldest first.

    While a day goes on, files are merged with others of about their size (each tier is 8 times the one
    before), so that a row is written again only as often as there are tiers. Once it is over, all are.
    """
    groups: dict[tuple[object, ...], list[Partition]] = defaultdict(list)
    for one in partitions:
        if one.size_bytes < LARGE_BYTES:
            over = _is_over(one.day, now)
            tier = -1 if over else max(0, one.size_bytes // 8192).bit_length() // 3
            kind = (one.contents, one.environment, one.endpoint, one.model, one.version)
            groups[(*kind, one.day, one.shape, tier)].append(one)
    for group in groups.values():
        fewest = 2 if _is_over(group[0].day, now) else TOGETHER
        ordered = sorted(group, key=lambda one: (one.since, one.path))
        yield from (part for part in _batches(ordered) if len(part) >= fewest)


def _batches(ordered: list[Partition]) -> Iterator[tuple[Partition, ...]]:
    batch: list[Partition] = []
    size = 0
    for one in ordered:
        batch.append(one)
        size += one.size_bytes
        if size >= LARGE_BYTES or len(batch) == MOST_TOGETHER:
            yield tuple(batch)
            batch, size = [], 0
    yield tuple(batch)


def _is_over(day: date, now: datetime) -> bool:
    return day < (now - LATE).date()


def has_expired(partition: Partition, keep_days: int, now: datetime) -> bool:
    """Whether all of its rows are older than that."""
    return partition.day < (now - timedelta(days=keep_days)).date()


def since_of_newest(partitions: Iterable[Partition], rows: int, *, since: datetime) -> datetime:
    """From when on the files have so many rows at least; `since` where all have fewer from then on."""
    begin: datetime | None = None
    for one in sorted(partitions, key=lambda one: one.until, reverse=True):
        if one.until < since:
            break
        begin = one.since if begin is None else min(begin, one.since)
        rows -= one.rows
        if rows <= 0:
            return max(begin, since)
    return since
