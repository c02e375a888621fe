"""How good predictions were: everything as aggregates in SQL, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from shipway.core import intervals
from shipway.core.errors import InvalidRequest
from shipway.core.fairness import fairness
from shipway.core.performance import (
    BINS,
    Bias,
    Bin,
    Business,
    By,
    Calibration,
    Classification,
    Delay,
    Errors,
    Performance,
    Regression,
    Slice,
    calibration_error,
    classification,
    regression,
)
from shipway.core.targets import Target
from shipway.monitoring.bias import segment_counts
from shipway.monitoring.grading import graded
from shipway.monitoring.matching import Range, matched

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_CLASSES = 100
MOST_SEGMENTS = 50
MOST_TIMES = 1000
OTHER = "(other)"
"""What rarer classes and segments are counted as together."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LENGTH_US = {By.HOUR: 3_600_000_000, By.DAY: 86_400_000_000}

Key = tuple[int, str, Any]
"""A version, its role, and the part: None, a segment, or microseconds since 1970."""

_COUNTS = "SELECT {key}, count(*) FROM answers GROUP BY ALL"
_LABELLED = """
SELECT {key}, count(*), count(*) FILTER (truth = predicted), count(truth),
  approx_quantile(delay_s, [0.5, 0.9, 0.99]) FROM graded GROUP BY ALL
"""
_CONFUSION = """
WITH frequent AS (
  SELECT one FROM (SELECT truth AS one FROM graded UNION ALL SELECT predicted FROM graded)
  WHERE one IS NOT NULL GROUP BY one ORDER BY count(*) DESC, one LIMIT {classes}),
named AS (
  SELECT graded.* REPLACE (coalesce(t.one, {other}) AS truth, coalesce(p.one, {other}) AS predicted)
  FROM graded LEFT JOIN frequent t ON t.one = truth LEFT JOIN frequent p ON p.one = predicted
  WHERE truth IS NOT NULL)
SELECT {key}, truth, predicted, count(*) FROM named GROUP BY ALL
"""
_LOSSES = """
SELECT {key}, count(loss), avg(loss), var_samp(loss), avg(brier), var_samp(brier)
FROM graded WHERE loss IS NOT NULL GROUP BY ALL
"""
_BINS = """
SELECT {key}, least(CAST(floor(stated * {bins}) AS INTEGER), {bins} - 1), count(*), avg(stated),
  avg(CASE WHEN came_true THEN 1 ELSE 0 END)
FROM graded WHERE stated IS NOT NULL GROUP BY ALL ORDER BY ALL
"""
_AREA = """
WITH tied AS (
  SELECT {key}, stated, count(*) FILTER (came_true) AS hits, count(*) FILTER (NOT came_true) AS misses
  FROM graded WHERE is_binary AND stated IS NOT NULL GROUP BY ALL),
ranked AS (
  SELECT *, sum(misses) OVER (PARTITION BY version, role, part ORDER BY stated
    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - misses AS below FROM tied)
SELECT version, role, part, CAST(sum(hits) AS BIGINT), CAST(sum(misses) AS BIGINT),
  sum(hits * (below + misses / 2.0)) FROM ranked GROUP BY ALL
"""
_ERRORS = """
WITH sized AS (
  SELECT {key}, error, abs(error) AS size, error * error AS square, true_number,
    CASE WHEN abs(true_number) > 1e-60 THEN abs(error / true_number) END AS share
  FROM graded WHERE error IS NOT NULL)
SELECT version, role, part, count(*), avg(error), var_samp(error), avg(size), var_samp(size),
  avg(square), var_samp(square), var_pop(true_number), count(share), avg(share), var_samp(share)
FROM sized GROUP BY ALL
"""
_BUSINESS = """
SELECT {key}, metric, count(*), avg(value), var_samp(value), sum(value) FROM business
GROUP BY ALL ORDER BY metric
"""


def performance(
    connection: DuckDBPyConnection,
    endpoint: str,
    targets: Mapping[int, Target],
    wanted: Range,
    *,
    by: By | None = None,
) -> Performance:
    """How the endpoint's versions did. The connection has the views that `monitoring.matching` needs.

    Raises:
        InvalidRequest: there are more hours or days than can be looked at.
    """
    matched(connection, targets, wanted)
    graded(connection, targets)
    notes = [*_without_target(connection, targets), *_cut(connection)]
    slices = _slices(connection, "NULL", None)
    return Performance(
        endpoint=endpoint,
        slices=slices,
        parts=() if by is None else _slices(connection, _part(connection, by), by),
        bias=_bias(connection, targets, slices) if by is By.SEGMENT else (),
        by=by,
        version=wanted.version,
        since=wanted.since,
        until=wanted.until,
        notes=tuple(notes),
    )


def _without_target(connection: DuckDBPyConnection, targets: Mapping[int, Target]) -> Iterable[str]:
    for (version,) in connection.execute(
        "SELECT DISTINCT version FROM answers ORDER BY 1"
    ).fetchall():
        if version not in targets:
            yield f"Of version {version}, no output is kept that a truth could be compared with."


def _cut(connection: DuckDBPyConnection) -> Iterable[str]:
    (found,) = _row(connection, "SELECT approx_count_distinct(truth) FROM graded")
    if found > MOST_CLASSES:
        yield (
            f"There are about {found:,} classes; all but the {MOST_CLASSES} most frequent count as"
            f" `{OTHER}`. The accuracy is of all."
        )


def _row(connection: DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    return row or (0,)


def _part(connection: DuckDBPyConnection, by: By) -> str:
    """What rows are parted by, as SQL."""
    if by is By.SEGMENT:
        rows = connection.execute(
            "SELECT segment FROM answers GROUP BY segment ORDER BY count(*) DESC, segment"
            f" LIMIT {MOST_SEGMENTS}"
        ).fetchall()
        connection.execute("CREATE OR REPLACE TEMP TABLE segments (name VARCHAR)")
        connection.executemany("INSERT INTO segments VALUES (?)", rows or [("",)])
        return f"CASE WHEN segment IN (SELECT name FROM segments) THEN segment ELSE '{OTHER}' END"
    length = _LENGTH_US[by]
    (found,) = _row(connection, f"SELECT count(DISTINCT at_us // {length}) FROM answers")
    if found > MOST_TIMES:
        raise InvalidRequest(
            f"There are {found:,} {by.value}s of predictions, more than the {MOST_TIMES:,} that are told apart.",
            next_step="Ask by `day`, or for a shorter time with `since` and `until`.",
        )
    return f"at_us // {length} * {length}"


def _slices(connection: DuckDBPyConnection, part: str, by: By | None) -> tuple[Slice, ...]:
    def rows(query: str) -> list[tuple[Any, ...]]:
        filled = query.format(
            key=f"version, role, {part} AS part",
            classes=MOST_CLASSES,
            other=f"'{OTHER}'",
            bins=BINS,
        )
        return connection.execute(filled).fetchall()

    labelled = {row[:3]: row[3:] for row in rows(_LABELLED)}
    classified = _classifications(rows, labelled)
    regressed = {row[:3]: _regression(row[3:]) for row in rows(_ERRORS)}
    outcomes: dict[Key, list[Business]] = {}
    for row in rows(_BUSINESS):
        outcomes.setdefault(row[:3], []).append(_business(*row[3:]))
    slices = [
        Slice(
            version=key[0],
            role=key[1],
            predictions=predictions,
            labelled=labelled.get(key, (0,))[0],
            part=key[2] if by is By.SEGMENT else None,
            at=_EPOCH + timedelta(microseconds=key[2]) if by in _LENGTH_US else None,
            delay=_delay(labelled[key][3]) if key in labelled else None,
            classification=classified.get(key),
            regression=regressed.get(key),
            outcomes=tuple(outcomes.get(key, ())),
        )
        for *key_parts, predictions in rows(_COUNTS)
        for key in [tuple(key_parts)]
    ]
    return tuple(sorted(slices, key=_order))


def _bias(
    connection: DuckDBPyConnection, targets: Mapping[int, Target], slices: Iterable[Slice]
) -> tuple[Bias, ...]:
    found = []
    for one in slices:
        target = targets.get(one.version)
        counts = segment_counts(connection, one.version, target, role=one.role) if target else ()
        if target is not None and counts:
            found.append(
                Bias(
                    version=one.version,
                    role=one.role,
                    positive=target.classes[1],
                    rates=fairness(counts),
                )
            )
    return tuple(found)


def _order(one: Slice) -> tuple[Any, ...]:
    return one.version, one.role, one.at or _EPOCH, one.part or ""


def _classifications(
    rows: Callable[[str], list[tuple[Any, ...]]], labelled: Mapping[Key, tuple[Any, ...]]
) -> dict[Key, Classification]:
    confusions: dict[Key, dict[tuple[str, str], int]] = {}
    for row in rows(_CONFUSION):
        confusions.setdefault(row[:3], {})[row[3], row[4]] = row[5]
    calibrations = _calibrations(rows)
    return {
        key: msgspec.structs.replace(
            classification(labelled[key][1], labelled[key][2], confusion),
            calibration=calibrations.get(key),
        )
        for key, confusion in confusions.items()
    }


def _calibrations(rows: Callable[[str], list[tuple[Any, ...]]]) -> dict[Key, Calibration]:
    bins: dict[Key, list[Bin]] = {}
    for *key, place, n, stated, came_true in rows(_BINS):
        one = Bin(
            low=place / BINS, high=(place + 1) / BINS, n=n, stated=stated, came_true=came_true
        )
        bins.setdefault((key[0], key[1], key[2]), []).append(one)
    areas = {row[:3]: row[3:] for row in rows(_AREA)}
    return {
        row[:3]: _calibration(row[3:], bins[row[:3]], areas.get(row[:3])) for row in rows(_LOSSES)
    }


def _calibration(
    losses: tuple[Any, ...], bins: list[Bin], area: tuple[Any, ...] | None
) -> Calibration:
    n, loss, loss_variance, brier, brier_variance = losses
    roc_auc = None
    if area is not None and area[0] and area[1]:
        hits, misses, won = area
        roc_auc = intervals.area(won / (hits * misses), hits, misses)
    return Calibration(
        n=n,
        log_loss=intervals.mean(loss, loss_variance, n),
        brier=intervals.mean(brier, brier_variance, n),
        calibration_error=calibration_error(bins),
        reliability=tuple(bins),
        roc_auc=roc_auc,
    )


def _regression(row: tuple[Any, ...]) -> Regression:
    names = ("n", "mean", "variance", "size", "size_variance", "square", "square_variance",
             "truth_variance", "shares", "share", "share_variance")  # fmt: skip
    return regression(Errors(**dict(zip(names, row, strict=True))))


def _business(metric: str, n: int, value: float, variance: float | None, total: float) -> Business:
    return Business(metric=metric, n=n, mean=intervals.mean(value, variance, n), total=total)


def _delay(quantiles: list[float] | None) -> Delay | None:
    return (
        None
        if quantiles is None
        else Delay(p50_s=quantiles[0], p90_s=quantiles[1], p99_s=quantiles[2])
    )
