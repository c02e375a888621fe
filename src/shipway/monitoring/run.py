"""One run: counts both samples, compares them, and says what it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from duckdb import DuckDBPyConnection

from shipway.core.drift.report import Verdict
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.summaries import Summary
from shipway.core.drift.verdicts import compare
from shipway.core.monitor_runs import MonitorFinding, MonitorReport, MonitorVerdict
from shipway.core.monitors import OF_TRUTHS, MonitorKind
from shipway.core.quality import LEAST_SHARE
from shipway.monitoring.findings import drift_findings, verdict_of
from shipway.monitoring.multivariate import multivariate_report
from shipway.monitoring.order import Order
from shipway.monitoring.samples import Samples, samples_of, watched
from shipway.monitoring.soundness import quality_findings, volume_finding
from shipway.monitoring.truths import truths_report

NEAREST = 5
"""Steady columns that are shown beside what fires."""

MOST_FINDINGS = 20
_NAMED = 3


class Logs(NamedTuple):
    """Connections with the views of the log, each with what the order's files of that name hold."""

    files: DuckDBPyConnection
    reference_files: DuckDBPyConnection
    traffic: DuckDBPyConnection
    labelled: DuckDBPyConnection


def report_of(order: Order, logs: Logs) -> MonitorReport:
    """What the run found."""
    if order.monitor.kind in OF_TRUTHS:
        return truths_report(order, logs.labelled, rules=rules_of(order))
    if order.monitor.kind is MonitorKind.MULTIVARIATE:
        return multivariate_report(order, logs.files, logs.reference_files)
    samples = samples_of(order, logs.files, logs.reference_files)
    if order.monitor.kind is MonitorKind.QUALITY:
        return _quality(order, samples, logs)
    return _drift(order, samples)


def rules_of(order: Order) -> DriftRules:
    """The defaults, with what the monitor says otherwise."""
    monitor, usual = order.monitor, DriftRules()
    given = monitor.thresholds
    return DriftRules(
        effect=given.get("effect", usual.effect),
        false_alarms_per_week=given.get("false_alarms_per_week", usual.false_alarms_per_week),
        runs_per_week=order.runs_per_week,
        minimum_rows=monitor.min_rows or usual.minimum_rows,
    )


def _drift(order: Order, samples: Samples) -> MonitorReport:
    rules = rules_of(order)
    report = compare(samples.reference, samples.current, rules=rules)
    findings = drift_findings(
        report, samples.reference, samples.current, rules=rules, nearest=NEAREST
    )
    tested = [one for one in report.findings if one.verdict is not Verdict.TOO_LITTLE_DATA]
    return _report(
        order, samples, verdict_of(report.verdict), findings, checked=len(tested), rules=rules
    )


def _quality(order: Order, samples: Samples, logs: Logs) -> MonitorReport:
    rules = rules_of(order)
    least_share = order.monitor.thresholds.get("share", LEAST_SHARE)
    found, tested = quality_findings(samples, logs.files, rules=rules, least_share=least_share)
    volume = volume_finding(
        logs.traffic, start=order.start, end=order.end, least_rows=rules.minimum_rows
    )
    findings = (*found, *((volume,) if volume is not None else ()))
    checked = tested + (volume is not None)
    verdict = MonitorVerdict.STEADY if checked else MonitorVerdict.INCONCLUSIVE
    if any(one.verdict is MonitorVerdict.FIRING for one in findings):
        verdict = MonitorVerdict.FIRING
    return _report(order, samples, verdict, findings, checked=checked, rules=rules)


def _report(
    order: Order,
    samples: Samples,
    verdict: MonitorVerdict,
    findings: Sequence[MonitorFinding],
    *,
    checked: int,
    rules: DriftRules,
) -> MonitorReport:
    current, usual = samples.current, samples.reference
    return MonitorReport(
        verdict=verdict,
        summary=_summary(verdict, findings, samples, checked=checked, rules=rules),
        start=order.start,
        end=order.end,
        reference=order.reference,
        rows=current.rows,
        reference_rows=usual.rows,
        checked=checked,
        findings=tuple(findings[:MOST_FINDINGS]),
        notes=tuple(_notes(order, current, usual, findings)),
    )


def _summary(
    verdict: MonitorVerdict,
    findings: Sequence[MonitorFinding],
    samples: Samples,
    *,
    checked: int,
    rules: DriftRules,
) -> str:
    match verdict:
        case MonitorVerdict.INCONCLUSIVE:
            return (
                f"Too little data: {samples.current.rows:,} rows, and {samples.reference.rows:,} to"
                f" compare them with; {rules.minimum_rows} independent ones are needed of each."
            )
        case MonitorVerdict.STEADY:
            return f"Nothing changed that matters ({checked} checks)."
        case MonitorVerdict.FIRING:
            firing = [one for one in findings if one.verdict is MonitorVerdict.FIRING]
            return f"{firing[0].words}{_others(firing[1:])}"


def _others(firing: Sequence[MonitorFinding]) -> str:
    if not firing:
        return ""
    names = list(dict.fromkeys(f"`{one.feature}`" if one.feature else one.what for one in firing))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f" Also: {', '.join(names[:_NAMED])}{more}."


def _notes(
    order: Order, current: Summary, usual: Summary, findings: Sequence[MonitorFinding]
) -> Iterator[str]:
    names = {column.name for column in watched(order)}
    if unknown := sorted((order.monitor.features and set(order.monitor.features) - names) or ()):
        yield f"There is no column {_listed(unknown)} to look at."
    if absent := sorted(usual.columns.keys() - current.columns.keys()):
        yield f"Not kept, and so not judged: {_listed(absent)}."
    if fresh := sorted(names - usual.columns.keys()):
        yield f"Not in the reference, and so not judged: {_listed(fresh)}."
    if (cut := len(findings) - MOST_FINDINGS) > 0:
        yield f"{cut} more findings are left out."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2 * _NAMED} more" if len(names) > 2 * _NAMED else ""
    return ", ".join(f"`{name}`" for name in names[: 2 * _NAMED]) + more
