"""What measuring rules make of measures. `None` is never judged: it neither raises nor resolves an alert."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import assert_never

import msgspec

from shipway.core.alerts.rules import (
    DAY_S,
    Absence,
    Anomaly,
    Burn,
    BurnRate,
    Change,
    Comparison,
    Direction,
    Measuring,
    Threshold,
)
from shipway.core.signals import Severity

Measured = Callable[[str, float, float], float | None]
"""A measure by its name, over a span (its length in seconds) that ended so many seconds ago."""

REQUESTS = "requests_per_s"
WEEK_S = 7 * DAY_S
HOUR_S = 3600.0
LEAST_WEEKS = 3
NORMAL = 0.6745
"""MAD of a normal distribution in standard deviations; (x - median) * 0.6745 / MAD is its z.

Source: Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers.
"""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says of an endpoint now. `numbers` are the evidence."""

    holds: bool
    severity: Severity
    summary: str
    numbers: dict[str, float]


def judged(rule: Measuring, measured: Measured) -> Judgement | None:
    """What the rule says; None when something that it needs cannot be measured."""
    match rule:
        case Threshold():
            return _threshold(rule, measured)
        case Change():
            return _change(rule, measured)
        case Anomaly():
            return _anomaly(rule, measured)
        case Absence():
            return _absence(rule, measured)
        case BurnRate():
            return _burn_rate(rule, measured)
        case _:
            assert_never(rule)


_COMPARE: Mapping[Comparison, Callable[[float, float], bool]] = {
    Comparison.ABOVE: operator.gt,
    Comparison.AT_LEAST: operator.ge,
    Comparison.BELOW: operator.lt,
    Comparison.AT_MOST: operator.le,
}


def _threshold(rule: Threshold, measured: Measured) -> Judgement | None:
    value = measured(rule.measure, 0.0, rule.over_s)
    if value is None or not _is_enough(rule.least_requests, measured, 0.0, rule.over_s):
        return None
    side = rule.op.value.replace("_", " ")
    return Judgement(
        holds=_COMPARE[rule.op](value, rule.value),
        severity=rule.severity,
        summary=f"`{rule.measure}` is {value:.4g} over {rule.over_s:g} s ({side} {rule.value:g}"
        " is an alert).",
        numbers={rule.measure: value, "threshold": rule.value},
    )


def _change(rule: Change, measured: Measured) -> Judgement | None:
    value = measured(rule.measure, 0.0, rule.over_s)
    before = measured(rule.measure, rule.over_s, rule.over_s)
    is_enough = all(
        _is_enough(rule.least_requests, measured, ago_s, rule.over_s)
        for ago_s in (0.0, rule.over_s)
    )
    if value is None or before is None or not is_enough:
        return None
    moved = value - before if rule.direction is Direction.UP else before - value
    return Judgement(
        holds=moved > 0 and moved >= abs(before) * rule.by_pct / 100.0,
        severity=rule.severity,
        summary=f"`{rule.measure}` went from {before:.4g} to {value:.4g} within {rule.over_s:g} s.",
        numbers={rule.measure: value, "before": before},
    )


def _anomaly(rule: Anomaly, measured: Measured) -> Judgement | None:
    """An outlier among the days before, and, where there is a history of weeks, among them too.

    A weekly rhythm makes every Saturday an outlier among days; it is none among Saturdays.
    """
    value = measured(rule.measure, 0.0, rule.over_s)
    if value is None or not _is_enough(rule.least_requests, measured, 0.0, rule.over_s):
        return None
    histories = [
        (_past(rule, measured, DAY_S, rule.days), rule.least_days),
        (_past(rule, measured, WEEK_S, rule.weeks), LEAST_WEEKS),
    ]
    told = [history for history, least in histories if len(history) >= least]
    if not told:
        return None
    usual = median(told[-1])
    return Judgement(
        holds=all(_is_far(rule, value, history) for history in told),
        severity=rule.severity,
        summary=f"`{rule.measure}` is {value:.4g}; at this time it usually is {usual:.4g}.",
        numbers={rule.measure: value, "usual": usual, "z": robust_z(value, told[-1])},
    )


def _past(rule: Anomaly, measured: Measured, step_s: float, count: int) -> list[float]:
    found = (measured(rule.measure, step_s * n, rule.over_s) for n in range(1, count + 1))
    return [value for value in found if value is not None]


def _is_far(rule: Anomaly, value: float, history: list[float]) -> bool:
    usual = median(history)
    sign = 1.0 if rule.direction is Direction.UP else -1.0
    distance = sign * (value - usual)
    is_large = distance > 0 and distance >= abs(usual) * rule.by_pct / 100.0
    return is_large and sign * robust_z(value, history) >= rule.z


def robust_z(value: float, history: Iterable[float]) -> float:
    """How many standard deviations a value is from the median, by the median absolute deviation.

    A history without any deviation is taken to deviate by a thousandth of its median.

    >>> round(robust_z(20.0, [9.0, 10.0, 10.0, 11.0, 10.0, 12.0, 8.0]), 3)
    6.745
    """
    known = list(history)
    usual = median(known)
    deviation = median(abs(one - usual) for one in known)
    return NORMAL * (value - usual) / max(deviation, abs(usual) / 1000.0, 1e-12)


def _absence(rule: Absence, measured: Measured) -> Judgement | None:
    """None came, where both the hour before and the same time of days before had enough.

    Where too few are to be expected, their absence says nothing, not even that it is over. Days before
    the last two are known by the hour; who was silent yesterday after an hour with requests, as now, may be so each day.
    """
    now = measured(REQUESTS, 0.0, rule.over_s)
    lately = measured(REQUESTS, rule.over_s, HOUR_S)
    if lately is None:
        return None
    days = [measured(REQUESTS, DAY_S * n, rule.over_s) for n in range(1, 8)]
    known = [rate for rate in days if rate is not None]
    rates = [lately, median(known)] if len(known) >= LEAST_WEEKS else [lately]
    if days[0] == 0 and measured(REQUESTS, DAY_S + rule.over_s, HOUR_S):
        rates.append(0.0)
    expected = min(rates) * rule.over_s
    if not now and expected < rule.least_expected:
        return None
    return Judgement(
        holds=not now,
        severity=rule.severity,
        summary=f"{(now or 0.0) * rule.over_s:.0f} requests came in {rule.over_s:g} s;"
        f" {expected:.0f} were to be expected.",
        numbers={"requests": (now or 0.0) * rule.over_s, "expected": expected},
    )


def _burn_rate(rule: BurnRate, measured: Measured) -> Judgement | None:
    """The most severe pair of windows in which the budget burns too fast; the fastest of them."""
    seen = [
        (burn, rates) for burn in rule.burns if (rates := _rates(rule, burn, measured)) is not None
    ]
    if not seen:
        return None
    burning = [(burn, rates) for burn, rates in seen if min(rates) >= burn.rate]
    burn, (long, short) = next(iter(burning or seen))
    return Judgement(
        holds=bool(burning),
        severity=burn.severity,
        summary=f"The error budget of {rule.objective_pct:g} % burns {long:.3g} times as fast as it"
        f" lasts over {burn.long_s:g} s, {short:.3g} times over {burn.short_s:g} s.",
        numbers={"burn_long": long, "burn_short": short, "limit": burn.rate},
    )


def _rates(rule: BurnRate, burn: Burn, measured: Measured) -> tuple[float, float] | None:
    long = measured(rule.measure, 0.0, burn.long_s)
    short = measured(rule.measure, 0.0, burn.short_s)
    if long is None or short is None:
        return None
    return long / rule.budget, short / rule.budget


def _is_enough(least: int, measured: Measured, ago_s: float, over_s: float) -> bool:
    if not least:
        return True
    rate = measured(REQUESTS, ago_s, over_s)
    return rate is not None and rate * over_s >= least
