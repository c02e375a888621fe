"""Monitors that need to know what came true: errors that became more, and segments that are not treated alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from duckdb import DuckDBPyConnection

from shipway.core.drift.rules import DriftRules
from shipway.core.drift.words import percent
from shipway.core.fairness import FOUR_FIFTHS, Rules, SegmentRate, fairness
from shipway.core.monitor_runs import (
    Bars,
    MonitorFinding,
    MonitorReport,
    MonitorVerdict,
    Point,
)
from shipway.core.monitors import MonitorKind
from shipway.core.targets import Target
from shipway.monitoring.bias import segment_counts
from shipway.monitoring.concept import (
    Block,
    Change,
    Quantity,
    Watch,
    changes,
    error_stream,
    recent_against_baseline,
)
from shipway.monitoring.grading import graded
from shipway.monitoring.matching import Range, matched
from shipway.monitoring.order import Order

LEAST_ERROR = 0.02
"""The smallest rise that matters: of an error rate as it is, of absolute errors as a share of those before."""

PARTS = 32
_LEAST_LABELLED = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def truths_report(
    order: Order, connection: DuckDBPyConnection, *, rules: DriftRules
) -> MonitorReport:
    """What the run found. The connection has all feedback, and all predictions of the time looked at."""
    if order.target is None:
        return _nothing(order, "No output of this version can be compared with what came true.")
    if order.monitor.kind is MonitorKind.BIAS:
        return _bias(order, order.target, connection, rules)
    return _performance(order, order.target, connection, rules)


def _performance(
    order: Order, target: Target, connection: DuckDBPyConnection, rules: DriftRules
) -> MonitorReport:
    since = order.reference_start
    _match(order, target, connection, since=since)
    what, blocks = error_stream(connection, order.version)
    stream = list(blocks)
    recent = recent_against_baseline(connection, order.version, order.start)
    watch = Watch(
        alpha=rules.alpha / 2,  # two claims share what a run may spend
        min_samples=rules.minimum_rows,
        least_effect=order.monitor.thresholds.get("error", LEAST_ERROR),
    )
    worse = worsened(recent, changes(what, stream, watch), watch)
    if worse is None and min(recent.n_before, recent.n_after) < watch.min_samples:
        return _nothing(
            order,
            f"Too little feedback: {recent.n_after:,} labelled predictions, and {recent.n_before:,} before"
            f" them; {watch.min_samples} are needed of each.",
            rows=(recent.n_after, recent.n_before),
        )
    finding = _errors(order, worse or recent, stream, watch, is_worse=worse is not None)
    return MonitorReport(
        verdict=finding.verdict,
        summary=finding.words,
        start=order.start,
        end=order.end,
        reference=order.reference,
        rows=recent.n_after,
        reference_rows=recent.n_before,
        checked=2,
        findings=(finding,),
    )


def worsened(recent: Change, found: Sequence[Change], watch: Watch) -> Change | None:
    """The change for the worse that is in effect: the last one of the stream, else that of the window."""
    if found and found[-1].effect > 0:
        return found[-1]
    scale = 1.0 if recent.what is Quantity.ERROR_RATE else abs(recent.before)
    is_worse = (
        min(recent.n_before, recent.n_after) >= watch.min_samples
        and recent.effect >= watch.least_effect * scale
        and recent.p_value <= watch.alpha
    )
    return recent if is_worse else None


def _errors(
    order: Order, change: Change, stream: Sequence[Block], watch: Watch, *, is_worse: bool
) -> MonitorFinding:
    scale = 1.0 if change.what is Quantity.ERROR_RATE else abs(change.before)
    threshold = change.before + watch.least_effect * scale
    return MonitorFinding(
        feature="",
        what="errors",
        verdict=MonitorVerdict.FIRING if is_worse else MonitorVerdict.STEADY,
        words=_words(change, is_worse=is_worse),
        numbers={
            "before": change.before,
            "after": change.after,
            "p": change.p_value,
            "alpha": watch.alpha,
            "n_before": change.n_before,
            "n_after": change.n_after,
        },
        statistic=change.what.value,
        threshold=threshold,
        since=change.since if is_worse else None,
        series=tuple(_series(order, stream)),
    )


def _words(change: Change, *, is_worse: bool) -> str:
    is_rate = change.what is Quantity.ERROR_RATE
    name = "error rate" if is_rate else "mean absolute error"
    before, after = (
        percent(mean) if is_rate else f"{mean:.4g}" for mean in (change.before, change.after)
    )
    said = f"The {name} rose from {before} to {after}" if is_worse else f"The {name} is {after}"
    usual = "" if is_worse else f", {before} before"
    return f"{said}{usual} ({change.n_before:,} labelled predictions before, {change.n_after:,} since)."


def _series(order: Order, stream: Sequence[Block]) -> Iterator[Point]:
    """The mean error of each part of the time."""
    start = order.reference_start or order.start
    width = (order.end - start) / PARTS
    rows, totals = [0] * PARTS, [0.0] * PARTS
    for block in stream:
        place = (_EPOCH + timedelta(microseconds=block.at_us) - start) // width
        at = min(max(place, 0), PARTS - 1)
        rows[at] += block.moments.n
        totals[at] += block.moments.total
    for at, (n, total) in enumerate(zip(rows, totals, strict=True)):
        value = total / n if n >= _LEAST_LABELLED else None
        yield Point(at=start + width * at, until=start + width * (at + 1), value=value, rows=n)


def _bias(
    order: Order, target: Target, connection: DuckDBPyConnection, rules: DriftRules
) -> MonitorReport:
    _match(order, target, connection, since=order.start)
    counts = segment_counts(connection, order.version, target)
    rates = fairness(
        counts,
        Rules(
            least_ratio=order.monitor.thresholds.get("ratio", FOUR_FIFTHS),
            alpha=rules.alpha,
            min_samples=rules.minimum_rows,
        ),
    )
    judged = [one for one in rates if one.p_value is not None]
    if not judged:
        return _nothing(
            order,
            f"No two segments have {rules.minimum_rows} predictions of two classes each. `capture.segment`"
            " says what a segment is.",
        )
    unfair = sorted((one for one in judged if one.is_unfair), key=lambda one: one.ratio or 0.0)
    findings = tuple(_unfair(one, judged) for one in unfair)
    steady = f"All segments are treated alike ({len(judged)} comparisons)."
    return MonitorReport(
        verdict=MonitorVerdict.FIRING if findings else MonitorVerdict.STEADY,
        summary=findings[0].words if findings else steady,
        start=order.start,
        end=order.end,
        reference="the other segments",
        rows=sum(one.n for one in counts),
        reference_rows=sum(one.n for one in counts),
        checked=len(judged),
        findings=findings,
    )


def _unfair(one: SegmentRate, judged: Sequence[SegmentRate]) -> MonitorFinding:
    alike = [other for other in judged if other.measure is one.measure]
    name = one.measure.value.replace("_", " ")
    mean = sum(other.rate.value * other.n for other in alike) / sum(other.n for other in alike)
    return MonitorFinding(
        feature=one.segment,
        what=name,
        verdict=MonitorVerdict.FIRING,
        words=f"Segment `{one.segment}`: {name} {percent(one.rate.value)}, {one.ratio or 0.0:.2g} of the"
        f" best segment's ({percent(mean)} over all).",
        numbers={"rate": one.rate.value, "ratio": one.ratio or 0.0, "p": one.p_value or 0.0},
        statistic=one.measure.value,
        bars=Bars(
            labels=tuple(other.segment for other in alike),
            reference=(mean,) * len(alike),
            current=tuple(other.rate.value for other in alike),
        ),
    )


def _match(
    order: Order, target: Target, connection: DuckDBPyConnection, *, since: datetime | None
) -> None:
    targets = {order.version: target}
    wanted = Range(version=order.version, since=since, until=order.end)
    matched(connection, targets, wanted)
    graded(connection, targets)


def _nothing(order: Order, summary: str, *, rows: tuple[int, int] = (0, 0)) -> MonitorReport:
    return MonitorReport(
        verdict=MonitorVerdict.INCONCLUSIVE,
        summary=summary,
        start=order.start,
        end=order.end,
        reference=order.reference,
        rows=rows[0],
        reference_rows=rows[1],
        checked=0,
    )
