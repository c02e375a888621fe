"""Counts of predictions by segment, for `core.fairness`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipway.core.fairness import SegmentCounts
from shipway.core.targets import Target
from shipway.monitoring.grading import classes_of
from shipway.store.predictions.reading import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_SEGMENTS = 50
"""The largest are compared."""

_COUNTS = """
WITH largest AS (
  SELECT segment, count(*) AS n, count(*) FILTER (predicted = {positive}) AS selected FROM answers
  WHERE version = {version} AND role = {role} AND segment <> '' AND predicted IS NOT NULL
  GROUP BY segment ORDER BY n DESC, segment LIMIT {most}),
known AS (
  SELECT segment, predicted = {positive} AS says, {truth} = {positive} AS "is" FROM judged
  WHERE version = {version} AND role = {role} AND label IS NOT NULL AND predicted IS NOT NULL)
SELECT segment, any_value(n), any_value(selected), count(*) FILTER (says AND "is"),
  count(*) FILTER (says AND NOT "is"), count(*) FILTER (NOT says AND NOT "is"),
  count(*) FILTER (NOT says AND "is")
FROM largest LEFT JOIN known USING (segment) GROUP BY segment ORDER BY segment
"""


def segment_counts(
    connection: DuckDBPyConnection, version: int, target: Target, *, role: str = "primary"
) -> tuple[SegmentCounts, ...]:
    """What was predicted in each segment, of the tables of `monitoring.matching`.

    The positive class is the second of two. Without two classes there is nothing to count. Predictions
    without a segment are left out.
    """
    classes = classes_of(connection, target)
    if len(classes) != 2:
        return ()
    query = _COUNTS.format(
        version=int(version),
        role=literal(role),
        positive=literal(classes[1]),
        truth="number_label(label)" if target.is_number else "label",
        most=MOST_SEGMENTS,
    )
    return tuple(
        SegmentCounts(
            segment=segment,
            n=n,
            selected=selected,
            true_positives=tp,
            false_positives=fp,
            true_negatives=tn,
            false_negatives=fn,
        )
        for segment, n, selected, tp, fp, tn, fn in connection.execute(query).fetchall()
    )
