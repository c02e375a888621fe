"""Conditions that a stranger wrote: one expression over columns, and nothing else of SQL.

The expression is parsed, not searched for words: what is not on the lists here is refused, whatever a
later DuckDB may know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from shipway.core.errors import InvalidRequest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LONGEST = 10_000
"""Characters of a condition."""

_KINDS = {
    *("COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "FUNCTION"),
    *("CAST", "CASE", "BETWEEN", "COLLATE"),
}
"""Parts of an expression; not among them are subqueries, windows, parameters and `*`."""

_NAMES = """
    + - * / // % ** ^ & | ~ << >> || @ ~~ !~~ ~~* !~~* ~~~ && @> <@
    abs ceil ceiling floor round trunc sign sqrt exp ln log log2 log10 pow power greatest least
    isnan isinf isfinite
    lower upper length strlen trim ltrim rtrim left right substr substring contains starts_with
    ends_with prefix suffix instr strpos position replace split_part concat concat_ws reverse
    regexp_matches regexp_full_match regexp_extract like_escape not_like_escape ilike_escape
    not_ilike_escape md5 sha256 hex octet_length
    now today current_date get_current_timestamp current_timestamp ago timezone date_trunc datetrunc
    date_part datepart date_diff datediff date_add date_sub epoch epoch_ms epoch_us year quarter
    month week day hour minute second dayofweek isodow dayofyear dayname monthname time_bucket strftime
    strptime try_strptime make_date make_timestamp make_timestamptz to_timestamp
    to_years to_months to_weeks to_days to_hours to_minutes to_seconds to_milliseconds to_microseconds
    coalesce nullif ifnull
    list_value len array_length list_contains array_contains list_has list_has_any list_has_all
    list_min list_max list_sum list_avg list_count list_extract list_element list_position
    json_extract json_extract_string json_array_length json_type json_valid json_contains json_exists
    -> ->>
"""
FUNCTIONS = frozenset(_NAMES.split())
"""What a condition may call."""


def require_condition(connection: DuckDBPyConnection, text: str) -> None:
    """Lets pass what is one expression of columns, constants, operators and allowed functions.

    Raises:
        InvalidRequest: it is not; says what is wrong.
    """
    if len(text) > LONGEST:
        raise _invalid(f"it has more than {LONGEST:,} characters")
    if "\0" in text:
        raise _invalid("it holds a zero byte")
    for node in _nodes(_expression(connection, text)):
        if node["class"] not in _KINDS:
            kind = str(node["class"]).lower()
            raise _invalid(f"it may hold no {kind}")
        name = node.get("function_name")
        if name is not None and str(name).lower() not in FUNCTIONS:
            raise _invalid(f"it may not call `{name}`")


def _expression(connection: DuckDBPyConnection, text: str) -> Any:
    """The one expression that is selected when the condition stands where an expression does."""
    # The line breaks end a comment that would hide the closing parenthesis.
    row = connection.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{text}\n)"]).fetchone()
    assert row is not None
    try:
        found = msgspec.json.decode(row[0])
    except RecursionError as exc:
        raise _invalid("it is nested too deeply") from exc
    except msgspec.DecodeError as exc:  # DuckDB's JSON has infinities
        raise _invalid("it holds a number that is too large") from exc
    if found["error"]:
        raise _invalid(str(found.get("error_message", "it cannot be read")).partition("\n")[0])
    statements = found["statements"]
    node = statements[0]["node"]
    selected = node.get("select_list", ())
    if len(statements) != 1 or len(selected) != 1 or node != _ALONE | {"select_list": selected}:
        raise _invalid("it is no single expression")
    return selected[0]


_ALONE: dict[str, Any] = {
    "type": "SELECT_NODE",
    "modifiers": [],
    "cte_map": {"map": []},
    "from_table": {
        "type": "EMPTY",
        "alias": "",
        "sample": None,
        "query_location": 18446744073709551615,
    },
    "where_clause": None,
    "group_expressions": [],
    "group_sets": [],
    "aggregate_handling": "STANDARD_HANDLING",
    "having": None,
    "sample": None,
    "qualify": None,
}
"""A statement that only selects an expression, as DuckDB serialises it."""


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every part of the expression. Not recursive: strangers decide how deep it is."""
    left = [tree]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if "class" in part:
                yield part
            left += part.values()
        elif isinstance(part, list):
            left += part


def _invalid(fact: str) -> InvalidRequest:
    return InvalidRequest(
        f"The condition cannot be used: {fact}.",
        next_step="Write one expression over the columns, such as `age > 40 AND plan = 'basic'`.",
        path="where",
    )
