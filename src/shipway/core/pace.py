"""What model calls cost and how requests for them come, learnt from both as they happen.

A call of `rows` rows takes about `fixed_s + rows * row_s`. Batching saves the fixed part, so it is
worth something only where that part is not small; and waiting for company is worth it only where
company comes sooner than it saves.
"""

from __future__ import annotations

from math import exp, log

_KEPT_SHARE = 0.98
"""How much of what was learnt stays at each call: the last fifty or so count."""

_GAP_SHARE = 0.125
"""How much one gap between two requests counts: the last ten or so."""

_PATIENCE = 4.0
"""Who has not come after so many usual gaps is not coming."""

_CALLS_KNOWN = 8
"""Fewer calls teach nothing about what a call costs."""

_LEAST_SPREAD = 0.01
"""Calls whose numbers of rows differ less (variance over squared mean) do not tell the parts apart."""

_OUTLIER = 4.0
"""A call so many times slower than expected counts as if it had been just that: the machine was busy."""

_LEAST_SAVED = 0.05
"""Batching pays when the fixed part is at least this share of what one request's rows take."""

_LONGEST_GAP_S = 10.0
_SHORTEST_GAP_S = 1e-6
"""Gaps are counted within these bounds: a longer silence says no more than that nobody is coming."""


class Pace:
    """The statistics of one kind of call: an exponentially weighted line through (rows, seconds).

    No clock of its own: times are seconds of any steady clock, the same for all calls.
    """

    __slots__ = (
        "_cross", "_last_at", "_log_gap", "_rows", "_seconds", "_squares", "_weight",
        "fixed_s", "is_known", "request_rows", "row_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self._weight = self._rows = self._seconds = self._squares = self._cross = 0.0
        self._last_at: float | None = None
        self._log_gap = log(_LONGEST_GAP_S)
        self.request_rows = 1.0
        self.fixed_s = 0.0
        self.row_s = 0.0
        self.is_known = False

    @property
    def gap_s(self) -> float:
        """The usual time between two requests.

        A geometric mean: callers who were answered together ask again together, and the pause
        between two such groups must not hide how close behind one another they are.
        """
        return exp(self._log_gap)

    @property
    def mean_rows(self) -> float:
        """Rows per call of late, 0 before the first."""
        return self._rows / self._weight if self._weight else 0.0

    @property
    def mean_s(self) -> float:
        """Seconds per call of late, 0 before the first."""
        return self._seconds / self._weight if self._weight else 0.0

    @property
    def pays(self) -> bool:
        """Whether running requests together is worth it; true until the contrary is known."""
        return not self.is_known or self.fixed_s > _LEAST_SAVED * self.row_s * self.request_rows

    def came(self, now: float, rows: int) -> None:
        """Takes a request of that many rows into account."""
        if self._last_at is not None:
            gap_s = min(max(now - self._last_at, _SHORTEST_GAP_S), _LONGEST_GAP_S)
            self._log_gap += (log(gap_s) - self._log_gap) * _GAP_SHARE
        self._last_at = now
        self.request_rows += (rows - self.request_rows) * _GAP_SHARE

    def ran(self, rows: int, seconds: float) -> None:
        """Takes a call of that many rows into account."""
        if self._weight >= _CALLS_KNOWN:
            seconds = min(seconds, _OUTLIER * max(self.expected_s(rows), self.mean_s))
        kept = _KEPT_SHARE
        self._weight = self._weight * kept + 1.0
        self._rows = self._rows * kept + rows
        self._seconds = self._seconds * kept + seconds
        self._squares = self._squares * kept + rows * rows
        self._cross = self._cross * kept + rows * seconds
        self._fit()

    def _fit(self) -> None:
        rows, seconds = self.mean_rows, self.mean_s
        spread = self._squares / self._weight - rows * rows
        self.is_known = self._weight >= _CALLS_KNOWN and spread > _LEAST_SPREAD * rows * rows
        if not self.is_known:
            return
        slope = (self._cross / self._weight - rows * seconds) / spread
        # Neither part of a cost is negative, whatever a noisy machine makes of the line.
        self.row_s = min(max(slope, 0.0), seconds / rows)
        self.fixed_s = max(seconds - self.row_s * rows, 0.0)

    def expected_s(self, rows: int) -> float:
        """What a call of that many rows will take; 0 when nothing has run yet."""
        if self.is_known:
            return self.fixed_s + self.row_s * rows
        return self.mean_s * max(1.0, rows / self.mean_rows) if self.mean_rows else self.mean_s

    def worth_waiting_until(self, waiting: int, *, tick_s: float) -> float:
        """When `waiting` requests should no longer wait for one more; in the past when not at all.

        What is worth less than `tick_s`, the shortest wait that can be kept, is not waited for.

        Run now, and who comes `g` later waits for this call and pays the fixed cost `f` again. Wait,
        and the `n` that are there wait `g` and one request's rows `b` longer. The sum of all
        waiting is smaller with company when `(n + 1) * g + n * b < f`. With f = 8 ms, b = 1 ms and
        n = 1, company that comes within 3.5 ms is worth it; with n = 4, within 0.8 ms.
        """
        if not self.is_known or self._last_at is None:
            return 0.0
        own_s = self.row_s * self.request_rows
        worth_s = (self.fixed_s - waiting * own_s) / (waiting + 1)
        gap_s = self.gap_s
        if worth_s < tick_s or gap_s >= worth_s:
            return 0.0
        return self._last_at + min(worth_s, max(tick_s, _PATIENCE * gap_s))
