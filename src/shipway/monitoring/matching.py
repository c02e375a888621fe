"""Finds the predictions that feedback is about: the join, as SQL over the views of the prediction log.

1. What one sender posted twice under one id is one message: the first.
2. A message with a request id is about all predictions under that id, be they a candidate's, a shadow's or
   the primary's; without one, about the last request of its key that a caller saw answered before the
   message's time, and a shadow's copy of it. With a row, about that row alone.
3. Of several messages about one prediction, the latest holds; of the same microsecond, the one that control
   took in last. Label, score and each outcome count for themselves: a message without one leaves it as it
   is. An outcome of a whole request counts once, at its first row.

So the order in which messages arrive, and how often, changes nothing. Two requests under one id cannot be
told apart, and share what is said of it.

The connection's views must hold all feedback, and all predictions from the first moment asked for on: a
message that came later may be about them, and a later prediction may have taken a key over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from shipway.core.labels import FALSE, TRUE
from shipway.core.targets import Target
from shipway.store.predictions.reading import literal, quoted
from shipway.wire.feedback import microseconds

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_EXACT = 2**53
_ARRIVAL_BITS = 56
"""Microseconds up to the year 4253."""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Which predictions are looked at: None for all versions, and for no bound. `until` is excluded."""

    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None


_MACROS = f"""
CREATE OR REPLACE TEMP MACRO whole_or_not(d, t) AS CASE
  WHEN NOT isfinite(d) THEN t
  WHEN d = trunc(d) AND abs(d) < {_EXACT} THEN CAST(CAST(d AS BIGINT) AS VARCHAR)
  ELSE CAST(d AS VARCHAR) END;
CREATE OR REPLACE TEMP MACRO number_label(t) AS CASE
  WHEN lower(trim(t)) = '{TRUE}' THEN '1'
  WHEN lower(trim(t)) = '{FALSE}' THEN '0'
  WHEN regexp_full_match(trim(t), '[+-]?[0-9]{{1,38}}') THEN CAST(CAST(trim(t) AS HUGEINT) AS VARCHAR)
  WHEN regexp_full_match(trim(t), '[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?')
    THEN whole_or_not(TRY_CAST(trim(t) AS DOUBLE), t)
  ELSE t END;
CREATE OR REPLACE TEMP MACRO stamp_of(at_us, arrived_us) AS
  (CAST(at_us AS HUGEINT) << {_ARRIVAL_BITS}) + arrived_us;
CREATE OR REPLACE TEMP MACRO us_of(stamp) AS CAST(stamp >> {_ARRIVAL_BITS} AS BIGINT);
CREATE OR REPLACE TEMP MACRO seen_handle(at_us, key) AS 'k' || at_us || ' ' || key;
CREATE OR REPLACE TEMP MACRO copied_handle(id, key) AS 's' || length(key) || ' ' || key || id;
"""
"""`number_label` is the rule of `core.labels` for labels that are numbers.

A stamp orders messages by time, then arrival, in one number.
"""

_SAID = """
CREATE OR REPLACE TEMP TABLE said AS
WITH numbered AS MATERIALIZED (
  SELECT coalesce(_request_id, '') AS id, coalesce(_key, '') AS key, coalesce(_row, -1) AS row,
    stamp_of(epoch_us(_at), coalesce(epoch_us(_arrived), row_number() OVER ())) AS stamp,
    coalesce(_principal, '') AS sender, coalesce(_id, '') AS message, label, score, outcomes
  FROM feedback {those}),
firsts AS (SELECT min(stamp) AS stamp FROM numbered WHERE message <> '' GROUP BY sender, message)
SELECT {columns} FROM numbered WHERE message = '' OR stamp IN (SELECT stamp FROM firsts)
"""
"""Messages of older files do not say when they arrived: before all others, in the order of their files."""

_PARTS = "id, key, row, stamp, label, score, outcomes"

_ASKED = """
CREATE OR REPLACE TEMP TABLE asked AS SELECT * FROM said WHERE id = '' AND key {those}
"""
_HEADS = """
CREATE OR REPLACE TEMP TABLE heads AS
SELECT _key AS key, epoch_us(_at) AS at_us, min(_request_id) AS id FROM predictions
WHERE _role <> 'shadow' AND _key IN (SELECT key FROM asked) GROUP BY ALL
"""
"""Tables of their own: only from their true sizes does DuckDB see that a join of all with all would not do."""

_MEANT = """
CREATE OR REPLACE TEMP TABLE meant AS
WITH found AS (
  SELECT asked.* EXCLUDE (id), heads.id, heads.at_us FROM asked ASOF JOIN heads
  ON asked.key = heads.key AND us_of(asked.stamp) >= heads.at_us)
SELECT 'r' || id AS handle, row, stamp, label, score, outcomes FROM said WHERE id <> ''
UNION ALL SELECT seen_handle(at_us, key), row, stamp, label, score, outcomes FROM found
UNION ALL SELECT copied_handle(id, key), row, stamp, label, score, outcomes FROM found
"""
"""Messages by the handle of the predictions that they are about."""

_TRUTHS = """
CREATE OR REPLACE TEMP TABLE truths AS
SELECT handle, row, arg_max(label, stamp) AS label, max(stamp) FILTER (label IS NOT NULL) AS label_stamp,
  arg_max(score, stamp) AS score, max(stamp) FILTER (score IS NOT NULL) AS score_stamp,
  min(stamp) FILTER (label IS NOT NULL OR score IS NOT NULL) AS first_stamp
FROM meant WHERE label IS NOT NULL OR score IS NOT NULL GROUP BY handle, row
"""

_RESULTS = """
CREATE OR REPLACE TEMP TABLE results AS
WITH entries AS (
  SELECT handle, row, stamp, unnest(map_entries(outcomes)) AS entry FROM meant
  WHERE cardinality(outcomes) > 0)
SELECT handle, row, entry.key AS metric, arg_max(entry.value, stamp) AS value, max(stamp) AS stamp
FROM entries GROUP BY handle, row, metric
"""

_BY_ID = "'r' || _request_id"
_BY_KEY = """CASE WHEN _role = 'shadow' THEN copied_handle(_request_id, _key)
    ELSE seen_handle(epoch_us(_at), _key) END"""
"""The handles of a prediction."""

_ANSWER = """
SELECT _version AS version, _role AS role, coalesce(_segment, '') AS segment, epoch_us(_at) AS at_us,
  _row AS row, {by_id} AS by_id, {by_key} AS by_key,
  {predicted} AS predicted, {chances} AS chances, {number} AS number
FROM predictions WHERE _version IN ({versions}){window}
"""


def matched(connection: DuckDBPyConnection, targets: Mapping[int, Target], wanted: Range) -> None:
    """Makes the temporary tables and views that `performance` reads, on a connection of its own.

    `answers` are the predictions looked at, of the versions that `targets` has; `judged` those whose
    truth is known, beside it; `business` the outcomes of predictions.
    """
    said = _SAID.format(columns=_PARTS, those="")
    asked = _ASKED.format(those="<> ''")
    for statement in (_MACROS, said, asked, _HEADS, _MEANT, _TRUTHS, _RESULTS):
        connection.execute(statement)
    kinds = dict(
        connection.execute("SELECT column_name, column_type FROM (DESCRIBE predictions)").fetchall()
    )
    versions = _versions(connection, wanted)
    parts = [
        _answer(kinds, target, [v for v in versions if targets.get(v) == target], wanted)
        for target in {targets.get(version) for version in versions}
    ] or [_answer(kinds, None, [], wanted)]
    connection.execute(f"CREATE OR REPLACE TEMP VIEW answers AS {' UNION ALL '.join(parts)}")
    connection.execute(_JUDGED)
    connection.execute(_BUSINESS)


def attributed(connection: DuckDBPyConnection, request_id: str) -> None:
    """Makes the temporary table `attributed`: the messages about the predictions under an id.

    Its columns are those of `feedback`. The connection is its own, and its views hold all of the log.
    """
    mine = f"_request_id = {literal(request_id)}"
    maybe = f"{mine} OR _key IN (SELECT key FROM own)"
    # All that were sent under one id, so that the first of them is the first.
    those = f"WHERE {maybe} OR _id IN (SELECT _id FROM feedback WHERE {maybe})"
    said = _SAID.format(columns=f"{_PARTS}, sender, message", those=those)
    asked = _ASKED.format(those="IN (SELECT key FROM own)")
    for statement in (_MACROS, _OWN.format(mine=mine), said, asked, _HEADS, _MEANT):
        connection.execute(statement)
    connection.execute(_ATTRIBUTED.format(own=literal(f"r{request_id}")))


_OWN = f"""
CREATE OR REPLACE TEMP TABLE own AS
SELECT DISTINCT _key AS key, {_BY_KEY} AS handle FROM predictions WHERE {{mine}} AND _key IS NOT NULL
"""
_ATTRIBUTED = """
CREATE OR REPLACE TEMP TABLE attributed AS
SELECT nullif(id, '') AS _request_id, nullif(row, -1) AS _row, nullif(key, '') AS _key,
  make_timestamptz(us_of(stamp)) AS _at, nullif(message, '') AS _id, label, score, outcomes,
  nullif(sender, '') AS _principal
FROM said WHERE stamp IN (SELECT stamp FROM meant WHERE handle = {own} OR handle IN (SELECT handle FROM own))
ORDER BY stamp
"""


def _versions(connection: DuckDBPyConnection, wanted: Range) -> list[int]:
    if wanted.version is not None:
        return [wanted.version]
    rows = connection.execute("SELECT DISTINCT _version FROM predictions ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def _answer(
    kinds: Mapping[str, str], target: Target | None, versions: Sequence[int], wanted: Range
) -> str:
    predicted, chances, number = (
        "CAST(NULL AS VARCHAR)",
        "CAST(NULL AS DOUBLE[])",
        "CAST(NULL AS DOUBLE)",
    )
    if target is not None and kinds.keys() >= set(target.columns):
        predicted = _predicted(kinds, target)
        if target.probabilities:
            chances = f"CAST({quoted(target.probabilities)} AS DOUBLE[])"
        if target.number:
            number = f"CAST({_single(kinds, target.number)} AS DOUBLE)"
    return _ANSWER.format(
        by_id=_BY_ID,
        by_key=_BY_KEY,
        predicted=predicted,
        chances=chances,
        number=number,
        versions=", ".join(str(int(version)) for version in versions) or "NULL",
        window=_window(wanted),
    )


def _predicted(kinds: Mapping[str, str], target: Target) -> str:
    if target.label:
        text = f"CAST({_single(kinds, target.label)} AS VARCHAR)"
    elif target.probabilities:
        chances = quoted(target.probabilities)
        text = f"{texts(target.classes)}[list_position({chances}, list_max({chances}))]"
    else:
        return "CAST(NULL AS VARCHAR)"
    return f"number_label({text})" if target.is_number else text


def _single(kinds: Mapping[str, str], column: str) -> str:
    """A column's value in a row; of a list, which holds one, its first."""
    return f"{quoted(column)}[1]" if kinds[column].endswith("[]") else quoted(column)


def _window(wanted: Range) -> str:
    since = "" if wanted.since is None else f" AND epoch_us(_at) >= {microseconds(wanted.since)}"
    until = "" if wanted.until is None else f" AND epoch_us(_at) < {microseconds(wanted.until)}"
    return since + until


def texts(items: Sequence[str]) -> str:
    """Texts as a list in SQL."""
    return f"CAST([{', '.join(literal(one) for one in items)}] AS VARCHAR[])"


_FOUR = ("a", "b", "c", "d")
"""The truths of a prediction: by its id and by its key, each of its row and of the whole request."""


def _latest(part: str, stamp: str) -> str:
    """The part of the truth whose stamp is the greatest of the four."""
    greatest = f"greatest({', '.join(f'{one}.{stamp}' for one in _FOUR)})"
    cases = " ".join(f"WHEN {one}.{stamp} = {greatest} THEN {one}.{part}" for one in _FOUR)
    return f"CASE {cases} END AS {part}"


_JUDGED = f"""
CREATE OR REPLACE TEMP TABLE judged AS
SELECT answers.* EXCLUDE (by_id, by_key), {_latest("label", "label_stamp")},
  {_latest("score", "score_stamp")},
  greatest(0, us_of(least({", ".join(f"{one}.first_stamp" for one in _FOUR)})) - at_us)
    / 1e6 AS delay_s
FROM answers
LEFT JOIN truths a ON a.handle = by_id AND a.row = answers.row
LEFT JOIN truths b ON b.handle = by_id AND b.row = -1
LEFT JOIN truths c ON c.handle = by_key AND c.row = answers.row
LEFT JOIN truths d ON d.handle = by_key AND d.row = -1
WHERE a.handle IS NOT NULL OR b.handle IS NOT NULL OR c.handle IS NOT NULL OR d.handle IS NOT NULL
"""

_BUSINESS = """
CREATE OR REPLACE TEMP TABLE business AS
WITH found AS (
  SELECT version, role, segment, at_us, answers.row, by_id, metric, results.row AS of_row, value, stamp
  FROM answers JOIN results ON results.handle = by_id AND greatest(results.row, 0) = answers.row
  UNION ALL
  SELECT version, role, segment, at_us, answers.row, by_id, metric, results.row, value, stamp
  FROM answers JOIN results ON results.handle = by_key AND greatest(results.row, 0) = answers.row)
SELECT version, role, segment, at_us, metric, arg_max(value, stamp) AS value
FROM found GROUP BY version, role, segment, at_us, row, by_id, metric, of_row
"""
