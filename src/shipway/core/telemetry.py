"""What is counted of requests, and how the counts of several gateways make one.

All counts are whole numbers kept as float64, seconds included, so that adding them is exact: neither
the order in which gateways are added nor adding some beforehand changes a sum. A sum that lost its
last bit would be read as a counter that began anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum, unique
from typing import Protocol

import msgspec

from shipway.core.errors import (
    CallerError,
    ConflictError,
    DeadlineExceeded,
    DependencyError,
    QueueFull,
    RateLimited,
    ShipwayError,
)

Name = tuple[str, str]
"""An endpoint, and a version behind it (`churn:2`).

The version is empty for what concerns no version: requests refused before one had its turn. The
endpoint is empty too for requests to endpoints that do not exist.
"""


@unique
class Outcome(IntEnum):
    """How a request ended, as its caller saw it; the number is its column.

    The column of `OK` stays empty: those answers are counted by the latency buckets.
    """

    OK = 0
    """Answered, by the model, the cache or a fallback."""

    CALLER = 1
    """The request was at fault, or its caller left before the answer."""

    SHED = 2
    """Refused because too much was inside, or a limit was used up (429)."""

    DEADLINE = 3
    """Not answered in time (504)."""

    UNAVAILABLE = 4
    """No replica could answer (503)."""

    FAILED = 5
    """The model's code raised, or ours did (500)."""


@unique
class Column(IntEnum):
    """What a row holds behind its outcomes."""

    IN_FLIGHT = 6
    OK_STEPS = 7
    OTHER_STEPS = 8
    CACHE_HITS = 9
    CACHE_MISSES = 10
    RETRIES = 11
    FALLBACKS = 12
    CAPTURED = 13
    """Predictions in the log; the three after it are those that were to be there, and are lost."""

    LOST_QUEUE = 14
    LOST_DISK = 15
    LOST_INVALID = 16

    COLD_STARTS = 17
    """Requests that were held until a replica had started, because none ran."""

    QUEUE_STEPS = 18
    """What requests waited in replicas for their turn, in steps as `OK_STEPS`; of those in the queue buckets."""

    RUN_STEPS = 19
    """What the model calls took that answered them, in steps; of those in the run buckets."""

    BATCHES = 20
    """Model calls: each is counted once, with one of the requests that it answered."""

    BATCH_ROWS = 21
    """The rows of those calls: `BATCH_ROWS / BATCHES` is their mean size."""

    UNSENT = 22
    """Traces and log records that no collector took; in the row that is of no endpoint."""

    FIRST_QUEUE_BUCKET = 23
    """`BUCKETS` columns: requests by how long they waited for their turn. Models in a gateway have no queue."""

    FIRST_RUN_BUCKET = 43
    """`BUCKETS` columns: requests by how long the model calls took that answered them."""

    FIRST_BUCKET = 63
    """`BUCKETS` columns, the last ones: answers that are `ok`, by how long their callers waited."""


BOUNDS_S = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
    *(0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0),
)
"""Upper ends of the buckets of all three histograms; a last one has what took longer."""

BUCKETS = len(BOUNDS_S) + 1
COLUMNS = Column.FIRST_BUCKET + BUCKETS

STEPS_PER_S = 2.0**22
"""Seconds are kept as whole steps of a quarter of a microsecond: exact for 68 years of them."""

_OK = int(Outcome.OK)
_OK_STEPS = int(Column.OK_STEPS)
_OTHER_STEPS = int(Column.OTHER_STEPS)
_FIRST_BUCKET = int(Column.FIRST_BUCKET)
_QUEUE_STEPS, _FIRST_QUEUE_BUCKET = int(Column.QUEUE_STEPS), int(Column.FIRST_QUEUE_BUCKET)
_RUN_STEPS, _FIRST_RUN_BUCKET = int(Column.RUN_STEPS), int(Column.FIRST_RUN_BUCKET)
_BATCHES, _BATCH_ROWS = int(Column.BATCHES), int(Column.BATCH_ROWS)


class Times(msgspec.Struct, frozen=True):
    """Where the time of one answered request went in its replica.

    `queue_s`: waiting for its turn. `run_s`: in model calls. `call_rows`: the rows of the (last) call that
    it ran in, with those of other requests. Each call is reported with one of its requests: `batches` and
    `batch_rows` are the calls, and their rows, that this one reports.
    """

    queue_s: float
    run_s: float
    call_rows: int = 0
    batches: int = 0
    batch_rows: int = 0


class Slots(Protocol):
    """The counts of a row, by column, where each can be set."""

    def __getitem__(self, column: int, /) -> float: ...

    def __setitem__(self, column: int, value: float, /) -> None: ...

    def __iter__(self) -> Iterator[float]: ...


def count_answer(row: Slots, outcome: int, seconds: float) -> None:
    """Counts one request that has ended. Latency buckets are for answers that are `ok`."""
    if outcome == _OK:
        row[_OK_STEPS] += (seconds * STEPS_PER_S + 0.5) // 1.0
        row[_FIRST_BUCKET + bisect_left(BOUNDS_S, seconds)] += 1.0
    else:
        row[outcome] += 1.0
        row[_OTHER_STEPS] += (seconds * STEPS_PER_S + 0.5) // 1.0


def count_queue(row: Slots, seconds: float) -> None:
    """Counts how long one request waited for its turn."""
    row[_QUEUE_STEPS] += (seconds * STEPS_PER_S + 0.5) // 1.0
    row[_FIRST_QUEUE_BUCKET + bisect_left(BOUNDS_S, seconds)] += 1.0


def count_run(row: Slots, seconds: float, *, batches: int, rows: int) -> None:
    """Counts what the model took for one request, and the calls that it reports, with their rows."""
    row[_RUN_STEPS] += (seconds * STEPS_PER_S + 0.5) // 1.0
    row[_FIRST_RUN_BUCKET + bisect_left(BOUNDS_S, seconds)] += 1.0
    if batches:
        row[_BATCHES] += batches
        row[_BATCH_ROWS] += rows


def outcome_of(error: ShipwayError) -> Outcome:
    """How a request ended that was answered with this error."""
    match error:
        case QueueFull() | RateLimited():
            return Outcome.SHED
        case DeadlineExceeded():
            return Outcome.DEADLINE
        case CallerError() | ConflictError():
            return Outcome.CALLER
        case DependencyError():
            return Outcome.UNAVAILABLE
        case _:
            return Outcome.FAILED


Rows = Mapping[Name, Sequence[float]]
"""Rows of `COLUMNS` counts, by name."""


def merged(parts: Iterable[Rows]) -> dict[Name, list[float]]:
    """The sums over all parts, column by column."""
    sums: dict[Name, list[float]] = {}
    for part in parts:
        for name, row in part.items():
            before = sums.get(name)
            sums[name] = list(row) if before is None else _added(before, row)
    return sums


def _added(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(one, other, strict=True)]


def settled(rows: Rows) -> dict[Name, list[float]]:
    """The rows of a gateway that has ended: nothing is inside it any more."""
    kept = {name: list(row) for name, row in rows.items()}
    for row in kept.values():
        row[Column.IN_FLIGHT] = 0.0
    return kept


def answers(row: Sequence[float], outcome: Outcome) -> float:
    """How many requests of a row ended so."""
    return sum(buckets(row, Column.FIRST_BUCKET)) if outcome is Outcome.OK else row[outcome]


def buckets(row: Sequence[float], first: Column) -> Sequence[float]:
    """The counts of the histogram whose first column that is, by `BOUNDS_S`."""
    return row[first : first + BUCKETS]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were answered and those that were not, with the seconds they took."""

    ok: int
    ok_s: float
    other: int
    other_s: float

    @classmethod
    def of(cls, row: Sequence[float]) -> Totals:
        """The totals of one row."""
        return cls(
            ok=int(answers(row, Outcome.OK)),
            ok_s=row[Column.OK_STEPS] / STEPS_PER_S,
            other=int(sum(row[Outcome.CALLER : Outcome.FAILED + 1])),
            other_s=row[Column.OTHER_STEPS] / STEPS_PER_S,
        )
