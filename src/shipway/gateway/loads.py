"""How busy a variant is: requests inside now, in the mean, and since when there are none."""

from __future__ import annotations

from time import monotonic

STRETCH_S = 1.0
"""The mean is of the present stretch and the one before it: of one to two seconds."""


class Load:
    """Counts requests in and out. Costs two readings of the clock per request."""

    __slots__ = ("_area", "_areas", "_begins", "_changed_s", "_left_s", "in_flight")

    def __init__(self) -> None:
        now_s = monotonic()
        self.in_flight = 0
        self._left_s = now_s
        self._changed_s = now_s
        self._area = 0.0
        self._begins = [now_s, now_s]
        self._areas = [0.0, 0.0]

    def enter(self) -> None:
        """Counts a request in."""
        now_s = monotonic()
        self._area += self.in_flight * (now_s - self._changed_s)
        self._changed_s = now_s
        self.in_flight += 1

    def leave(self) -> None:
        """Counts a request out."""
        now_s = monotonic()
        self._area += self.in_flight * (now_s - self._changed_s)
        self._changed_s = self._left_s = now_s
        self.in_flight -= 1

    def mean(self) -> float:
        """How many requests were inside in the mean of the last second or two."""
        now_s = monotonic()
        area = self._area + self.in_flight * (now_s - self._changed_s)
        if now_s - self._begins[1] >= STRETCH_S:
            self._begins = [self._begins[1], now_s]
            self._areas = [self._areas[1], area]
        span_s = now_s - self._begins[0]
        return (area - self._areas[0]) / span_s if span_s > 0 else float(self.in_flight)

    @property
    def idle_s(self) -> float:
        """Seconds since a request was last inside; 0 while one is."""
        return 0.0 if self.in_flight else monotonic() - self._left_s
