"""What an alert rule watches, one struct for each kind. How each is judged is in `judging`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec

from shipway.core.signals import Severity

DAY_S = 24 * 3600.0
Span = Annotated[float, msgspec.Meta(gt=0, le=7 * DAY_S)]
"""Seconds over which a measure is taken."""

Wait = Annotated[float, msgspec.Meta(ge=0, le=7 * DAY_S)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Comparison(StrEnum):
    """How a measure stands to a rule's value when the rule holds."""

    ABOVE = "above"
    AT_LEAST = "at_least"
    BELOW = "below"
    AT_MOST = "at_most"


class Direction(StrEnum):
    """Which way a measure has to move for a rule to hold."""

    UP = "up"
    DOWN = "down"


class Condition(StrEnum):
    """What control sees of itself, without a measure."""

    CANNOT_ANSWER = "cannot_answer"
    """The version that should serve has no ready replica, on one gateway at least."""

    ROLLOUT_STUCK = "rollout_stuck"
    """A rollout stays longer in its step than its own plan allows."""

    NO_GATEWAY = "no_gateway"
    """There are endpoints, and no gateway has reported lately."""


class _Rule(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    name: Name
    """Of the rule, and of its alerts."""

    severity: Severity = Severity.WARNING
    """How soon somebody should look."""

    for_s: Wait = 0.0
    """An alert fires once the rule has held for so long."""

    hold_s: Wait = 120.0
    """It is resolved once the rule has not held for so long; longer for one that comes and goes."""

    runbook: str = ""
    """Where it says what to do: a URL, or a path in the documentation."""


class Threshold(_Rule, frozen=True, kw_only=True, tag="threshold"):
    """A measure on the wrong side of a value."""

    measure: str
    """Such as `error_rate`, `p99_ms` or `queue_ms`."""

    op: Comparison = Comparison.ABOVE
    """On which side it is wrong."""

    value: float
    """In the measure's unit."""

    over_s: Span = 300.0
    """The measure is taken over so long."""

    least_requests: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Fewer requests in that time say nothing."""


class Change(_Rule, frozen=True, kw_only=True, tag="change"):
    """A measure that moved quickly: against the same span just before."""

    measure: str
    """Such as `requests_per_s`."""

    direction: Direction = Direction.UP
    """Which way."""

    by_pct: Annotated[float, msgspec.Meta(gt=0)]
    """By so much of what it was before."""

    over_s: Span = 600.0
    """Both spans are so long."""

    least_requests: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Fewer requests in either span say nothing."""


class Anomaly(_Rule, frozen=True, kw_only=True, tag="anomaly"):
    """A measure far from what it is at this time of the day, and of the week."""

    measure: str
    """Such as `p99_ms`."""

    direction: Direction = Direction.UP
    """Which way is wrong."""

    z: Annotated[float, msgspec.Meta(gt=0)] = 6.0
    """So many robust standard deviations from the median."""

    by_pct: Annotated[float, msgspec.Meta(ge=0)] = 50.0
    """And so much of the median: a steady history makes small steps significant, never large."""

    over_s: Span = 600.0
    """The measure is taken over so long, now and then."""

    days: Annotated[int, msgspec.Meta(ge=1, le=28)] = 14
    """Compared with the same time of so many days before."""

    weeks: Annotated[int, msgspec.Meta(ge=0, le=12)] = 8
    """And with the same day of so many weeks before."""

    least_days: Annotated[int, msgspec.Meta(ge=3)] = 5
    """Fewer days with a measure say nothing; for weeks, 3."""

    least_requests: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Fewer requests in the time say nothing."""


class Absence(_Rule, frozen=True, kw_only=True, tag="absence"):
    """No requests where there would be some."""

    over_s: Span = 900.0
    """None for so long."""

    least_expected: Annotated[float, msgspec.Meta(ge=3)] = 20.0
    """So many would have come, by the hour before and by the same time of days before."""


class Burn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pair of windows: the budget burns `rate` times as fast as it lasts, in both."""

    rate: Annotated[float, msgspec.Meta(gt=0)]
    long_s: Span
    short_s: Span
    severity: Severity


BURNS = (
    Burn(rate=14.4, long_s=3600.0, short_s=300.0, severity=Severity.CRITICAL),
    Burn(rate=6.0, long_s=6 * 3600.0, short_s=1800.0, severity=Severity.CRITICAL),
    Burn(rate=1.0, long_s=3 * DAY_S, short_s=6 * 3600.0, severity=Severity.WARNING),
)
"""2 % of a month's budget in an hour, 5 % in six, 10 % in three days.

Source: Google, The Site Reliability Workbook, chapter 5, table 5-8 ("multiwindow, multi-burn-rate").
"""


class BurnRate(_Rule, frozen=True, kw_only=True, tag="burn_rate"):
    """The error budget of an objective that is used up too fast."""

    measure: str = "error_rate"
    """The share of bad requests, 0 to 1."""

    objective_pct: Annotated[float, msgspec.Meta(gt=0, lt=100)]
    """So many of a hundred requests shall be good."""

    burns: tuple[Burn, ...] = BURNS
    """The fastest one that holds gives the severity."""

    subject: str = ""
    """Which objective it is."""

    @property
    def budget(self) -> float:
        """The share of requests that may be bad: 0.001 for 99.9 %."""
        return 1.0 - self.objective_pct / 100.0


class State(_Rule, frozen=True, kw_only=True, tag="state"):
    """Something that control sees of itself."""

    condition: Condition
    """What."""


class Reported(_Rule, frozen=True, kw_only=True, tag="reported"):
    """What monitors, budgets and looks at the installation report; they judge, and give the severity."""


Measuring: TypeAlias = Threshold | Change | Anomaly | Absence | BurnRate
Rule: TypeAlias = Measuring | State | Reported
