"""The monitor of all inputs together, as a report."""

from __future__ import annotations

from duckdb import DuckDBPyConnection

from shipway.core.drift.separation import Separation, SeparationRules
from shipway.core.monitor_runs import MonitorFinding, MonitorReport
from shipway.monitoring.classifier import Rows, sampled, separated
from shipway.monitoring.findings import verdict_of
from shipway.monitoring.order import Order
from shipway.monitoring.profiles import chosen_cells
from shipway.monitoring.samples import reference_bounds, watched


def multivariate_report(
    order: Order, connection: DuckDBPyConnection, reference: DuckDBPyConnection
) -> MonitorReport:
    """What the run found. `reference` holds the rows that the window of `connection` is compared with."""
    usual, current = _rows(order, connection, reference)
    monitor, defaults = order.monitor, SeparationRules()
    given = monitor.thresholds
    rules = SeparationRules(
        effect=given.get("effect", defaults.effect),
        false_alarms_per_week=given.get("false_alarms_per_week", defaults.false_alarms_per_week),
        runs_per_week=order.runs_per_week,
        minimum_rows=monitor.min_rows or defaults.minimum_rows,
    )
    found = separated(usual, current, rules=rules)
    finding = _finding(found)
    return MonitorReport(
        verdict=finding.verdict,
        summary=finding.words,
        start=order.start,
        end=order.end,
        reference=order.reference,
        rows=len(current.values),
        reference_rows=len(usual.values),
        checked=1,
        findings=(finding,),
        notes=("Rows are a sample of at most 4,000 of each side.",),
    )


def _rows(
    order: Order, connection: DuckDBPyConnection, reference: DuckDBPyConnection
) -> tuple[Rows, Rows]:
    """Both samples, of the columns that both have."""
    columns, window = watched(order), (order.start, order.end)
    since, until = reference_bounds(order)
    cells = chosen_cells(reference, columns, since=since, until=until)
    categories = dict(cells.categories)
    current = sampled(connection, columns, categories=categories, window=window)
    shared = [one for one in columns if one.name in current.names]
    usual = sampled(reference, shared, categories=categories, window=(since, until))
    if usual.names != current.names:
        shared = [one for one in shared if one.name in usual.names]
        current = sampled(connection, shared, categories=categories, window=window)
    return usual, current


def _finding(found: Separation) -> MonitorFinding:
    return MonitorFinding(
        feature=next(iter(found.importance), ""),
        what="multivariate",
        verdict=verdict_of(found.verdict),
        words=f"{found.words[:1].upper()}{found.words[1:]}.",
        numbers={
            "auc": found.auc,
            "p": found.p,
            "alpha": found.alpha,
            **{f"falls without {name}": fall for name, fall in found.importance.items()},
        },
        statistic="auc",
        threshold=found.threshold,
    )
