"""Which of a version's answers came in its slowest seconds."""

from __future__ import annotations

from shipway.core.evidence import Account, Buckets, bucket_of

LEFT_OUT = 3
"""So many of a version's slowest seconds are left out of its latency in a step, in each gateway."""


class Seconds:
    """Counts a version's latencies, second by second. One for each account; not for threads.

    Answers that a stall held up come together and say one thing, not many. So an account names its
    slowest seconds, by their mean, for the guard to look at the rest; the present one is among them.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._second = -1
        self._sum_s = 0.0
        self._present: Buckets = {}
        self._slowest: list[tuple[float, Buckets]] = []

    def count(self, latency_s: float, *, at_s: float) -> None:
        """Counts an answer, which came at that moment of a steady clock."""
        if int(at_s) != self._second:
            self._begin(int(at_s))
        bucket = bucket_of(latency_s)
        self._sum_s += latency_s
        for counts in (self._account.latency, self._account.slowest, self._present):
            counts[bucket] = counts.get(bucket, 0) + 1

    def _begin(self, second: int) -> None:
        if self._present:
            mean_s = self._sum_s / sum(self._present.values())
            self._slowest.append((mean_s, self._present))
            self._slowest.sort(key=lambda one: one[0], reverse=True)
            del self._slowest[LEFT_OUT:]
        self._second, self._sum_s, self._present = second, 0.0, {}
        self._account.slowest.clear()
        for _, counts in self._slowest:
            for bucket, count in counts.items():
                self._account.slowest[bucket] = self._account.slowest.get(bucket, 0) + count
