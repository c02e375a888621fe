"""Hours that cost far more than the same hour of the days and weeks before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median

import msgspec

from shipway.core.alerts.judging import robust_z

DAYS, LEAST_DAYS = 14, 5
WEEKS, LEAST_WEEKS = 8, 3
"""An hour is compared with that of so many days and weeks; of fewer, nothing is said."""

LEAST_Z = 6.0
"""So many robust standard deviations from the median are far."""

LEAST_SHARE = 0.5
"""And so much over the dearest of them: a few days tell little of how far costs vary."""

LEAST_AMOUNT = 0.01
"""Nobody is to look after less, in the currency of the prices."""


class Surge(msgspec.Struct, frozen=True, kw_only=True):
    """What an hour cost beside what it usually does. `z` is robust, see `robust_z`."""

    spent: float
    usual: float
    z: float
    is_odd: bool


def compared_hours(hour: datetime) -> tuple[tuple[datetime, ...], tuple[datetime, ...]]:
    """The same hour of the days before, and of the weeks before."""
    return (
        tuple(hour - timedelta(days=n) for n in range(1, DAYS + 1)),
        tuple(hour - timedelta(weeks=n) for n in range(1, WEEKS + 1)),
    )


def surge_of(spent: float, days: Sequence[float], weeks: Sequence[float]) -> Surge | None:
    """Judges an hour by what is known of the same hour before; None where that is too little.

    With a history of weeks it has to be far from both: a weekly rhythm makes every Monday odd among days.
    """
    told = [
        history
        for history, least in ((days, LEAST_DAYS), (weeks, LEAST_WEEKS))
        if len(history) >= least
    ]
    if not told:
        return None
    return Surge(
        spent=spent,
        usual=median(told[-1]),
        z=robust_z(spent, told[-1]),
        is_odd=all(_is_far(spent, history) for history in told),
    )


def _is_far(spent: float, history: Sequence[float]) -> bool:
    usual = median(history)
    is_large = spent >= max(usual + LEAST_AMOUNT, (1 + LEAST_SHARE) * max(history))
    return is_large and robust_z(spent, history) >= LEAST_Z
