"""What a comparison of two samples says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """What can be said of a column."""

    DRIFTED = "drifted"
    """It moved, by more than matters and more than chance explains."""

    STEADY = "steady"
    """It did not move by as much as matters, or by no more than chance explains."""

    TOO_LITTLE_DATA = "too_little_data"
    """There are too few independent values to say."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one column.

    `effect` is measured with `statistic` and has to reach `threshold`, which is above the rules' effect
    by what chance adds at this sample size. `p` is of `test`, and has to be below `alpha`, the run's share
    divided among the columns (Holm). `statistics` has all that was measured, by name. `words` says what
    happened, `since` when it began inside the current window: None where that is not known.
    `independent` counts the values of the baseline and of the current sample, less repeats.
    """

    column: str
    verdict: Verdict
    statistic: str = ""
    effect: float = 0.0
    threshold: float = 0.0
    test: str = ""
    p: float = 1.0
    alpha: float = 0.0
    statistics: Mapping[str, float] = {}
    words: str = ""
    since: datetime | None = None
    independent: tuple[float, float] = (0.0, 0.0)


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a sample, and on each of its columns in the baseline's order.

    It is `drifted` where any column is, `too_little_data` where no column could be judged. `unknown` are the
    columns that only one of the samples has.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    baseline_rows: int
    current_rows: int
    unknown: tuple[str, ...] = ()

    @property
    def drifted(self) -> tuple[Finding, ...]:
        """The findings of the columns that drifted, the largest effect first."""
        moved = [one for one in self.findings if one.verdict is Verdict.DRIFTED]
        return tuple(sorted(moved, key=lambda one: one.threshold - one.effect))
