"""Which waiting requests a replica runs together, and when.

Requests that can be stacked onto each other stand in one line. Whenever the model is free, the
line with the longest-waiting request is asked first: it runs its oldest requests together, or, when
it has learnt that one more is likely to come soon enough to be worth it, waits. Size and delay are
bounds; a deadline is one too. Nothing here knows a clock: `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

import msgspec
import numpy as np

from shipway.core.pace import Pace
from shipway.core.tensors import Array

StackKey = tuple[tuple[str, str, tuple[int, ...]], ...]

MAX_PACES = 256
"""Kinds of calls remembered at most; then those are forgotten that nobody waits for."""


class Waiting(msgspec.Struct, frozen=True):
    """One queued request: its ticket, its rows, and what it can be stacked with (None: nothing)."""

    ticket: int
    rows: int
    stack_key: StackKey | None
    came_at: float = 0.0
    expires_at: float = inf


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What batching may do at most. `tick_s`: no shorter wait can be kept by whoever waits."""

    max_rows: int
    max_delay_s: float = 0.0
    tick_s: float = 0.001


class Run(msgspec.Struct, frozen=True):
    """Run these requests together now, oldest first."""

    tickets: tuple[int, ...]
    rows: int
    pace: Pace


class Wait(msgspec.Struct, frozen=True):
    """Decide again at that time, or when something changes."""

    until: float


def stack_key(inputs: Mapping[str, Array]) -> StackKey | None:
    """Equal for requests whose inputs can be stacked along the first dimension.

    None when an input has no rows to stack or the inputs disagree on how many.
    """
    rows = {array.shape[0] if array.ndim else -1 for array in inputs.values()}
    if len(rows) != 1 or rows == {-1}:
        return None
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items())


def next_step(line: Iterable[Waiting], pace: Pace, now: float, bounds: Bounds) -> Run | Wait:
    """What to do with one line of requests, oldest first and not empty, when the model is free.

    A batch is the longest head of the line that stays within `max_rows` (zero rows count as one);
    what cannot be stacked, and what is not worth stacking, runs alone. It waits for one more request
    only while that shortens the mean answer time, within `max_delay_s` of the oldest request's
    arrival, and so that no deadline is missed for it.
    """
    chosen: list[int] = []
    rows, expires_at, came_at = 0, inf, now
    is_full = not pace.pays
    for waiting in line:
        size = max(1, waiting.rows)
        if chosen and rows + size > bounds.max_rows:
            is_full = True
            break
        came_at = came_at if chosen else waiting.came_at
        chosen.append(waiting.ticket)
        rows += size
        expires_at = min(expires_at, waiting.expires_at)
        is_full = is_full or waiting.stack_key is None or rows >= bounds.max_rows
        if is_full:
            break
    if not is_full:
        latest = min(came_at + bounds.max_delay_s, expires_at - pace.expected_s(rows))
        until = pace.worth_waiting_until(len(chosen), tick_s=bounds.tick_s)
        if until > now and now + bounds.tick_s <= latest:
            return Wait(min(max(until, now + bounds.tick_s), latest))
    return Run(tuple(chosen), rows, pace)


class Line:
    """Requests that can be stacked onto each other, oldest first."""

    __slots__ = ("pace", "waiting")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.waiting: dict[int, Waiting] = {}

    @property
    def oldest(self) -> int:
        """The ticket of the oldest one; tickets grow."""
        return next(iter(self.waiting))


class Queue:
    """All requests that wait for one model, in lines by what they can be stacked with."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lines: dict[StackKey | None, Line] = {}
        self._paces: dict[StackKey | None, Pace] = {}
        self._keys: dict[int, StackKey | None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, waiting: Waiting) -> None:
        """Puts a request at the end of its line. Its ticket is new, its rows within the bound."""
        line = self._lines.get(waiting.stack_key)
        if line is None:
            line = self._lines[waiting.stack_key] = Line(self._pace(waiting.stack_key))
        line.pace.came(waiting.came_at, waiting.rows)
        line.waiting[waiting.ticket] = waiting
        self._keys[waiting.ticket] = waiting.stack_key

    def remove(self, ticket: int) -> bool:
        """Takes a request out; gives whether it was there. The others stay as they were."""
        if ticket not in self._keys:
            return False
        key = self._keys.pop(ticket)
        line = self._lines[key]
        del line.waiting[ticket]
        if not line.waiting:
            del self._lines[key]
        return True

    def next_expiry(self) -> float:
        """When the first deadline passes; infinity when there is none."""
        return min((w.expires_at for w in self._all()), default=inf)

    def expire(self, now: float) -> tuple[int, ...]:
        """Takes out those whose deadline has passed, and gives their tickets."""
        passed = tuple(w.ticket for w in self._all() if w.expires_at <= now)
        for ticket in passed:
            self.remove(ticket)
        return passed

    def decide(self, now: float) -> Run | Wait | None:
        """What the free model does next: what it gives to run leaves the queue. None when empty.

        A line that waits keeps no other from running.
        """
        wait: Wait | None = None
        for line in self._oldest_first():
            step = next_step(line.waiting.values(), line.pace, now, self._bounds)
            if isinstance(step, Run):
                for ticket in step.tickets:
                    self.remove(ticket)
                return step
            if wait is None or step.until < wait.until:
                wait = step
        return wait

    def _oldest_first(self) -> Sequence[Line]:
        lines = list(self._lines.values())
        return lines if len(lines) < 2 else sorted(lines, key=lambda line: line.oldest)

    def _pace(self, key: StackKey | None) -> Pace:
        pace = self._paces.get(key)
        if pace is None:
            if len(self._paces) >= MAX_PACES:
                self._paces = {key: line.pace for key, line in self._lines.items()}
            pace = self._paces[key] = Pace()
        return pace

    def _all(self) -> Iterable[Waiting]:
        return (waiting for line in self._lines.values() for waiting in line.waiting.values())


def stacked(batch: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The inputs of several requests with an equal stack key, as one."""
    return {name: np.concatenate([inputs[name] for inputs in batch]) for name in batch[0]}


def follows_rows(outputs: Mapping[str, Array], rows: int) -> bool:
    """Whether each output has one entry per row, so that requests can be told apart in it."""
    return all(array.ndim > 0 and array.shape[0] == rows for array in outputs.values())
