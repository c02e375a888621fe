"""How much an endpoint takes on: requests at once, and second tries.

Both are counters that are told the time. They are cheap enough for the way of a request: admitting
is one comparison with a number that was computed before.
"""

from __future__ import annotations

import math

SAFETY = 0.6
"""The share of the deadline that waiting and computing may take on average."""

LEAST = 4
"""Never fewer at once: the measurement needs requests to go on."""

UNBOUNDED = 1 << 62
"""The bound while nothing has been measured."""

WINDOW_S = 0.25
LONGEST_WINDOW_S = 2.0
ENOUGH = 16
"""A window of busy time ends after so many answers, or when it is the longest."""

PRESSURE = 0.3
"""Requests that take this share of the deadline on average are held up by the model."""

_WEIGHT = 0.3
_LEAST_PER_S = 0.001
_WORST_RETRY_AFTER_S = 60


class Admission:
    """How many requests may wait for a model at once, so that each is answered in time.

    By Little's law a request that finds `n` before it waits `n / rate`, so `rate x deadline x SAFETY`
    may be inside. The rate is that of answers during busy time, the time with a request inside. It is
    the model's only while the model is what holds requests up; while callers are few, it is theirs,
    and batches and idle replicas could do more. So a lower rate is believed under `PRESSURE` alone,
    and a higher one always. Worked example: 200 answers in a busy second, deadline 0.5 s: 60 at once,
    of which the last waits 0.3 s.
    """

    __slots__ = (
        "_answered",
        "_busy_s",
        "_expired",
        "_held_s",
        "_is_first",
        "_since",
        "bound",
        "deadline_s",
        "in_flight",
        "rate_per_s",
    )

    def __init__(self, deadline_s: float = math.inf) -> None:
        self.in_flight = 0
        self.bound = UNBOUNDED
        self.rate_per_s = 0.0
        self.deadline_s = deadline_s
        self._since = 0.0
        self._is_first = True
        self._begin_window()

    def expect(self, deadline_s: float) -> None:
        """Changes the deadline that requests have when they bring none."""
        self.deadline_s = deadline_s
        self.bound = self.bound_for(deadline_s)

    def bound_for(self, deadline_s: float) -> int:
        """How many may be inside for the next to be answered within so long."""
        if not self.rate_per_s:
            return UNBOUNDED
        return max(LEAST, int(self.rate_per_s * deadline_s * SAFETY))

    def enter(self, now: float) -> None:
        """Counts a request in."""
        self._pass(now)
        self.in_flight += 1

    def note_answered(self) -> None:
        """Notes that the model came to an end with a request inside."""
        self._answered += 1

    def note_expired(self) -> None:
        """Notes that a request inside was not answered in time."""
        self._expired += 1

    def leave(self, now: float) -> None:
        """Counts a request out."""
        self._pass(now)
        self.in_flight -= 1
        if self._busy_s >= WINDOW_S:
            self._learn()

    def retry_after_s(self, held: int) -> int:
        """When to come again, if so many are inside: when they are answered."""
        if not self.rate_per_s:
            return 1
        return min(_WORST_RETRY_AFTER_S, max(1, math.ceil(held / self.rate_per_s)))

    def _pass(self, now: float) -> None:
        if self.in_flight:
            passed_s = now - self._since
            self._busy_s += passed_s
            self._held_s += passed_s * self.in_flight
        self._since = now

    def _learn(self) -> None:
        """Ends the window when it tells enough. One without any news is a model that starts."""
        if self._answered < ENOUGH and self._busy_s < LONGEST_WINDOW_S:
            return
        if not self._answered and not (self._expired and self.rate_per_s):
            return
        seen, known = self._answered / self._busy_s, self.rate_per_s
        held_for_a_start = self._is_first and self._busy_s > 2 * LONGEST_WINDOW_S
        if (self._is_pressed() and not held_for_a_start) or (known and seen > known):
            rate_per_s = known + _WEIGHT * (seen - known) if known else seen
            self.rate_per_s = max(_LEAST_PER_S, rate_per_s)
            self.bound = self.bound_for(self.deadline_s)
        self._is_first = False
        self._begin_window()

    def _is_pressed(self) -> bool:
        return self._expired > 0 or self._held_s > PRESSURE * self.deadline_s * self._answered

    def _begin_window(self) -> None:
        self._busy_s = self._held_s = 0.0
        self._answered = self._expired = 0


RETRY_SHARE = 0.2
"""Second tries per request."""

RETRIES_PER_S = 10.0
"""Second tries that are allowed however few requests come."""

MOST_RETRIES = 256.0
"""Saved up at most: what one replica may have inside when it is lost."""


class RetryBudget:
    """A bucket of second tries: each request adds a fifth of one, each second ten, each try takes one.

    So a replica that is lost is made up for at once, and a fleet that is dying is not asked twice.
    """

    __slots__ = ("_at", "_tokens")

    def __init__(self, now: float) -> None:
        self._tokens = MOST_RETRIES / 2
        self._at = now

    def note_request(self) -> None:
        """Counts a first try."""
        if self._tokens < MOST_RETRIES:
            self._tokens += RETRY_SHARE

    def take(self, now: float) -> bool:
        """Whether a second try is allowed now; it is counted if so."""
        grown = self._tokens + max(0.0, now - self._at) * RETRIES_PER_S
        self._tokens, self._at = min(MOST_RETRIES, grown), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
