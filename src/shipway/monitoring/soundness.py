"""Faults of the data as findings: with their share over time, and what the new categories are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import duckdb
import msgspec

from shipway.core.drift.onset import onset
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.summaries import Summary
from shipway.core.drift.words import percent
from shipway.core.monitor_runs import MonitorFinding, MonitorVerdict, Point
from shipway.core.quality import LEAST_SHARE, Claim, Fault, Volume, claims, overall_volume
from shipway.monitoring.columns import Column, typed, value_of
from shipway.monitoring.findings import bars_of
from shipway.monitoring.order import EARLIER_WINDOWS
from shipway.monitoring.profiles import strangers
from shipway.monitoring.samples import Samples

_LEAST_WINDOWS = 3
_DAY, _WEEK = timedelta(days=1), timedelta(weeks=1)
_SHARE = "share of values"


def quality_findings(
    samples: Samples,
    connection: duckdb.DuckDBPyConnection,
    *,
    rules: DriftRules,
    least_share: float = LEAST_SHARE,
) -> tuple[tuple[MonitorFinding, ...], int]:
    """The faults of columns that became more frequent, the largest rise first; and how many were tested."""
    tested = claims(samples.reference, samples.current, rules=rules, least_share=least_share)
    held = sorted((one for one in tested if one.holds), key=lambda one: -one.rise)
    columns = {column.name: column for column in samples.columns}
    found = tuple(_finding(claim, columns[claim.column], samples, connection) for claim in held)
    return found, len(tested)


def _finding(
    claim: Claim, column: Column, samples: Samples, connection: duckdb.DuckDBPyConnection
) -> MonitorFinding:
    window = samples.current
    series = tuple(_series(claim, column, window, connection))
    usual = claim.usual
    return MonitorFinding(
        feature=claim.column,
        what=claim.fault.value,
        verdict=MonitorVerdict.FIRING,
        words=_words(claim, column, samples, connection),
        numbers={
            "share": claim.current[0] / max(1, claim.current[1]),
            "reference_share": usual,
            "p": claim.p,
            "alpha": claim.alpha,
        },
        statistic=_SHARE,
        threshold=usual + claim.least_share,
        since=_since(series, usual),
        series=series,
        bars=bars_of(samples.reference.columns[claim.column], window.columns[claim.column]),
    )


def _words(
    claim: Claim, column: Column, samples: Samples, connection: duckdb.DuckDBPyConnection
) -> str:
    now, before = percent(claim.current[0] / max(1, claim.current[1])), percent(claim.usual)
    name = f"`{claim.column}`"
    match claim.fault:
        case Fault.MISSING:
            return f"{name}: {now} of the values are missing, {before} were."
        case Fault.INFINITE:
            return f"{name}: {now} of the values are infinite, {before} were."
        case Fault.OUT_OF_RANGE:
            return (
                f"{name}: {now} of the values are outside of the range that held all but {before}."
            )
        case Fault.CONSTANT:
            return f"{name}: all values are the same; the most frequent one was {before} of them."
        case Fault.NEW_CATEGORY:
            names = _new_names(column, samples, connection)
            return f"{name}: {now} of the values are of new categories{names}; {before} were."


def _new_names(column: Column, samples: Samples, connection: duckdb.DuckDBPyConnection) -> str:
    usual, window = samples.reference.columns[column.name].categories, samples.current
    if usual is None or window.since is None or window.until is None:
        return ""
    names = strangers(
        connection, column, tuple(usual.counts), since=window.since, until=window.until
    )
    return f" ({', '.join(f'`{name}`' for name in names)})" if names else ""


def _series(
    claim: Claim, column: Column, window: Summary, connection: duckdb.DuckDBPyConnection
) -> Iterator[Point]:
    """The share of faulty values in each bucket of the window."""
    counts = _counted(claim, column, window, connection)
    ends = (*window.starts[1:], window.until)
    for at, until, (part, whole) in zip(window.starts, ends, counts, strict=False):
        assert until is not None
        yield Point(at=at, until=until, value=part / whole if whole else None, rows=whole)


def _counted(
    claim: Claim, column: Column, window: Summary, connection: duckdb.DuckDBPyConnection
) -> Sequence[tuple[int, int]]:
    parts = window.columns[claim.column].parts
    match claim.fault:
        case Fault.OUT_OF_RANGE:
            return [(part[0] + part[-1], sum(part)) for part in parts]
        case Fault.NEW_CATEGORY:
            return [(part[-1], sum(part)) for part in parts]
        case Fault.CONSTANT:
            return [(max(part), sum(part)) for part in parts]
        case Fault.MISSING:
            return _counted_rows(column, window, connection, "{value} IS NULL")
        case Fault.INFINITE:
            return _counted_rows(column, window, connection, "isinf({value})")


def _counted_rows(
    column: Column, window: Summary, connection: duckdb.DuckDBPyConnection, condition: str
) -> Sequence[tuple[int, int]]:
    """The rows that meet a condition, and all, of each bucket."""
    (found,) = typed(connection, [column])
    test = condition.format(value=value_of(found))
    counted = []
    for since, until in zip(window.starts, (*window.starts[1:], window.until), strict=True):
        (row,) = connection.execute(
            f"SELECT count(*) FILTER ({test}), count(*) FROM predictions"
            " WHERE _at >= $since AND _at < $until",
            {"since": since, "until": until},
        ).fetchall()
        counted.append((int(row[0]), int(row[1])))
    return counted


def _since(series: Sequence[Point], usual: float) -> datetime | None:
    hits = [(point.value or 0.0) * point.rows for point in series]
    at = onset(hits, [point.rows for point in series], usual)
    return None if at is None else series[at].at


def volume_finding(
    connection: duckdb.DuckDBPyConnection, *, start: datetime, end: datetime, least_rows: int
) -> MonitorFinding | None:
    """Whether far fewer or far more rows came than at the same time on any day before; None where it is not known.

    Windows of more than a day are held against the windows before them. It is known after three windows and a
    whole week: an endpoint that began on a Wednesday must not alarm on its first Saturday.
    """
    step = max(end - start, _DAY)
    windows = [(start - step * back, end - step * back) for back in range(EARLIER_WINDOWS, -1, -1)]
    counts = [_rows(connection, since, until) for since, until in windows]
    volume = overall_volume(counts[-1], counts[:-1])
    least = max(_LEAST_WINDOWS, _WEEK // step)
    if not volume.can_judge(least_windows=least, least_rows=least_rows):
        return None
    return MonitorFinding(
        feature="",
        what="volume",
        verdict=MonitorVerdict.FIRING if volume.is_odd else MonitorVerdict.STEADY,
        words=_volume_words(volume),
        numbers=msgspec.to_builtins(
            {"rows": volume.rows, "lowest": volume.lowest, "highest": volume.highest}
        ),
        statistic="rows",
        threshold=volume.lowest,
        since=start if volume.is_odd else None,
        series=tuple(
            Point(at=since, until=until, value=count, rows=count)
            for (since, until), count in zip(windows, counts, strict=True)
        ),
    )


def _rows(connection: duckdb.DuckDBPyConnection, since: datetime, until: datetime) -> int:
    (row,) = connection.execute(
        "SELECT count(*) FROM predictions WHERE _at >= $since AND _at < $until",
        {"since": since, "until": until},
    ).fetchall()
    return int(row[0])


def _volume_words(volume: Volume) -> str:
    usual = (
        f"{min(volume.earlier):,} to {max(volume.earlier):,} in the {len(volume.earlier)} before"
    )
    return f"{volume.rows:,} rows came in this window, {usual}."
