"""How many rows are independent: callers who repeat themselves count for less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shipway.core.drift.significance import typical_chi_square

LEAST_PAIRS = 5
LEAST_ROWS = 20


def design_effect(parts: Sequence[Sequence[int]]) -> float:
    """How many rows are worth one independent row; 1 where it cannot be told.

    Rows that come in bunches (one caller sends the same customer forty times) make neighbouring buckets
    of time differ by more than chance: chi-square's statistic of two buckets is then about so many times
    its degrees of freedom, which is the design effect (Rao and Scott, "The analysis of categorical data
    from complex sample surveys", 1981). Of all pairs of neighbours the median counts, so that one real change inside the
    window is not taken for repeats. Bunches that last longer than two buckets are not seen.
    """
    cells = np.asarray(parts, dtype=np.float64)
    if len(cells) <= LEAST_PAIRS:
        return 1.0
    one, other = cells[:-1], cells[1:]
    mine, others = one.sum(axis=1), other.sum(axis=1)
    enough = np.minimum(mine, others) >= LEAST_ROWS
    if enough.sum() < LEAST_PAIRS:
        return 1.0
    one, other, mine, others = one[enough], other[enough], mine[enough], others[enough]
    both = one + other
    gaps = (one * np.sqrt(others / mine)[:, None] - other * np.sqrt(mine / others)[:, None]) ** 2
    statistics = np.divide(gaps, both, out=np.zeros_like(both), where=both > 0).sum(axis=1)
    degrees = np.maximum((both > 0).sum(axis=1) - 1, 1)
    typical = typical_chi_square(degrees)
    return max(1.0, float(np.median(statistics / typical)))
