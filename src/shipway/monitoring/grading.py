"""Predictions beside their truth become numbers that can be added up: the view `graded`.

A row has `version`, `role`, `segment`, `at_us`, `row` and `delay_s`; of a classification `truth` and `predicted`, and where
the version gives probabilities `stated`, `came_true`, `loss` and `brier` (see `core.performance.Calibration`); of a
regression `error` (predicted less true) and `true_number`. Numbers beyond what feedback may say are left out: of their squares
there is no variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shipway.core.evaluations import Task
from shipway.core.labels import FALSE, TRUE
from shipway.core.targets import Target
from shipway.monitoring.matching import texts
from shipway.wire.feedback import LARGEST

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SMALLEST = 2.220446049250313e-16
"""Probabilities are at least this in a log loss, as in scikit-learn; an impossible one would make it infinite."""

_LARGEST_CHANCE = 1.0001
"""What a rounded 1 may be; where one is larger, or below 0, they are no probabilities."""

_CLASSIFIED = """
SELECT version, role, segment, at_us, row, delay_s, {shown_truth} AS truth, {shown_predicted} AS predicted,
  {binary} AS is_binary,
  CASE WHEN is_stated THEN {stated} END AS stated, CASE WHEN is_stated THEN {came_true} END AS came_true,
  CASE WHEN is_stated THEN -ln(least(greatest(chances[place], {smallest}), 1.0)) END AS loss,
  CASE WHEN is_stated THEN {brier} END AS brier,
  CAST(NULL AS DOUBLE) AS error, CAST(NULL AS DOUBLE) AS true_number
FROM (
  SELECT *, coalesce(place IS NOT NULL AND len(chances) = {count} AND list_count(chances) = {count}
    AND list_min(chances) >= 0 AND list_max(chances) <= {largest_chance}, false) AS is_stated
  FROM (SELECT *, list_position({classes}, truth) AS place
    FROM (SELECT * EXCLUDE (label), {truth} AS truth FROM judged
      WHERE version IN ({versions}) AND label IS NOT NULL AND predicted IS NOT NULL)))
"""

_REGRESSED = """
SELECT version, role, segment, at_us, row, delay_s, CAST(NULL AS VARCHAR) AS truth, CAST(NULL AS VARCHAR) AS predicted,
  false AS is_binary, CAST(NULL AS DOUBLE) AS stated, CAST(NULL AS BOOLEAN) AS came_true,
  CAST(NULL AS DOUBLE) AS loss, CAST(NULL AS DOUBLE) AS brier, number - true_number AS error, true_number
FROM (SELECT *, coalesce(score, TRY_CAST(label AS DOUBLE)) AS true_number FROM judged
  WHERE version IN ({versions}) AND number IS NOT NULL)
WHERE abs(true_number) <= {largest} AND abs(number) <= {largest}
"""


def graded(connection: DuckDBPyConnection, targets: Mapping[int, Target]) -> None:
    """Makes the view `graded` of what `matching.matched` made with the same targets."""
    parts = [
        _part(connection, target, [v for v, other in targets.items() if other == target])
        for target in set(targets.values())
    ] or [_REGRESSED.format(versions="NULL", largest=LARGEST)]
    connection.execute(f"CREATE OR REPLACE TEMP VIEW graded AS {' UNION ALL '.join(parts)}")


def _part(connection: DuckDBPyConnection, target: Target, versions: list[int]) -> str:
    numbers = ", ".join(str(version) for version in versions)
    if target.task is Task.REGRESSION:
        return _REGRESSED.format(versions=numbers, largest=LARGEST)
    classes = classes_of(connection, target)
    is_binary = len(classes) == 2
    listed = texts(classes)
    return _CLASSIFIED.format(
        versions=numbers,
        shown_truth=_shown("truth", target),
        shown_predicted=_shown("predicted", target),
        truth="number_label(label)" if target.is_number else "label",
        classes=listed,
        count=len(classes),
        binary=is_binary,
        stated="chances[2]" if is_binary else "list_max(chances)",
        came_true="place = 2" if is_binary else "place = list_position(chances, list_max(chances))",
        brier="power(chances[2] - (CASE WHEN place = 2 THEN 1 ELSE 0 END), 2)"
        if is_binary
        else "list_dot_product(chances, chances) - 2 * chances[place] + 1",
        smallest=repr(SMALLEST),
        largest_chance=_LARGEST_CHANCE,
    )


def _shown(label: str, target: Target) -> str:
    """A label as people read it: of booleans `true` in place of 1."""
    if not target.is_boolean:
        return label
    return f"CASE {label} WHEN '1' THEN '{TRUE}' WHEN '0' THEN '{FALSE}' ELSE {label} END"


def classes_of(connection: DuckDBPyConnection, target: Target) -> tuple[str, ...]:
    """The classes of a target as labels are compared."""
    if not target.is_number:
        return target.classes
    read = "SELECT number_label(one) FROM (SELECT unnest(?) AS one)"
    rows = connection.execute(read, [list(target.classes)]).fetchall() if target.classes else []
    return tuple(row[0] for row in rows)
