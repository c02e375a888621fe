"""Counts by name: the form in which telemetry leaves a gateway and is kept.

A row of `core.telemetry` has its counts by column number, for the request's way. Numbers change with
releases; what is sent and kept has names, so that an older or newer reader adds up what it does not know.
A count that is 0 is left out. All are whole numbers, so that adding is exact in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shipway.core.telemetry import BOUNDS_S, COLUMNS, Column, Outcome

Tally = Mapping[str, float]
"""Whole numbers, by name."""

BUCKETS = (*(f"le_{bound:g}" for bound in BOUNDS_S), "le_inf")
"""The names of the latency buckets, each with the requests that took longer than the one before it."""

_HISTOGRAMS = {
    int(Column.FIRST_QUEUE_BUCKET): "queue_",
    int(Column.FIRST_RUN_BUCKET): "run_",
    int(Column.FIRST_BUCKET): "",
}

QUEUE_BUCKETS = tuple(f"queue_{name}" for name in BUCKETS)
"""The same of what requests waited in replicas for their turn."""

RUN_BUCKETS = tuple(f"run_{name}" for name in BUCKETS)
"""The same of what the model calls took that answered them."""

LARGEST = 2.0**53
"""Above this a float64 does not hold every whole number."""


def _names() -> tuple[str, ...]:
    numbered = {int(outcome): outcome.name.lower() for outcome in Outcome}
    numbered |= {int(column): column.name.lower() for column in Column}
    for first, prefix in _HISTOGRAMS.items():
        numbered |= {first + place: prefix + name for place, name in enumerate(BUCKETS)}
    return tuple(numbered[number] for number in range(COLUMNS))


NAMES = _names()
"""The name of each column of a row, by its number."""

_COUNTED = tuple(
    (number, name) for number, name in enumerate(NAMES) if number != int(Column.IN_FLIGHT)
)


def tally_of(row: Sequence[float]) -> dict[str, float]:
    """A row's counts by name, without what is inside now: that is no count of the past."""
    return {name: row[number] for number, name in _COUNTED if row[number]}


def added(parts: Iterable[Tally]) -> dict[str, float]:
    """The sum over all parts.

    `added([{"shed": 1}, {"shed": 2, "retries": 1}])` is `{"shed": 3, "retries": 1}`.
    """
    total: dict[str, float] = {}
    for part in parts:
        add(total, part)
    return total


def add(total: dict[str, float], part: Tally) -> None:
    """Adds a part to a total, in place."""
    for name, count in part.items():
        total[name] = total.get(name, 0.0) + count


def grown(before: Tally, now: Tally) -> dict[str, float] | None:
    """What was counted since `before`; None when a count went back, which counters do not."""
    if any(now.get(name, 0.0) < count for name, count in before.items()):
        return None
    return {
        name: count - before.get(name, 0.0)
        for name, count in now.items()
        if count != before.get(name, 0.0)
    }


def is_sound(tally: Tally) -> bool:
    """Whether every count is a whole number that a sum may hold."""
    return all(0 <= count <= LARGEST and count == count // 1 for count in tally.values())
