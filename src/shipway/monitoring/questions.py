"""Questions about the prediction log: what is asked, and the answer as a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shipway.core.errors import InvalidRequest
from shipway.monitoring.matching import attributed
from shipway.store.predictions.conditions import require_condition
from shipway.store.predictions.reading import (
    LogFiles,
    bounded,
    connected,
    literal,
    quoted,
    reason_of,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST_JSON_BYTES = 64 * 1024 * 1024


class Format(StrEnum):
    """How rows are written."""

    JSON = "json"
    """One object with `rows` and `is_cut`; a 64-bit number may be more than JavaScript can hold."""

    CSV = "csv"
    PARQUET = "parquet"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted, newest first, and the file that they are to be written to.

    With a `request_id`, all rows of that request and the feedback that the join finds to be about it, as JSON.
    """

    files: LogFiles
    out: str
    temp_dir: str
    timeout_s: float
    where: str = ""
    columns: tuple[str, ...] = ()
    limit: int = 100
    format: Format = Format.JSON
    request_id: str = ""


def answer(question: Question) -> None:
    """Writes the answer to the question's file.

    Raises:
        InvalidRequest: a column or the condition cannot be used, or it would be too much.
        DeadlineExceeded: it took too long.
        StoreUnavailable: a file of the log is away or damaged.
    """
    out = Path(question.out)
    with (
        connected(question.files, temp_dir=Path(question.temp_dir), may_write=[out]) as connection,
        _told_mistakes(question),
        bounded(connection, timeout_s=question.timeout_s),
    ):
        if question.request_id:
            _write_json(out, _about_request(connection, question.request_id))
            return
        query = _query(connection, question)
        _require_bound(connection, query, question)
        if question.format is Format.JSON:
            rows = list(_rows(connection, f"{query} LIMIT {question.limit + 1}"))
            is_cut = len(rows) > question.limit
            _write_json(out, {"rows": rows[: question.limit], "is_cut": is_cut})
        else:
            options = "FORMAT csv, HEADER" if question.format is Format.CSV else _PARQUET
            connection.execute(
                f"COPY ({query} LIMIT {question.limit}) TO {literal(str(out))} ({options})"
            )


_PARQUET = "FORMAT parquet, COMPRESSION zstd"


def _query(connection: DuckDBPyConnection, question: Question) -> str:
    known = [row[0] for row in connection.execute("DESCRIBE predictions").fetchall()]
    for name in question.columns:
        if name not in known:
            raise InvalidRequest(
                f"The log has no column `{name}`.", next_step=_columns_are(known), path="columns"
            )
    columns = ", ".join(map(quoted, question.columns)) or "*"
    query = f"SELECT {columns} FROM predictions"
    if question.where.strip():
        require_condition(connection, question.where)
        query += f" WHERE (\n{question.where}\n)"
    return f"{query} ORDER BY _at DESC, _request_id, _row"


def _columns_are(known: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in known[:40])
    return f"Its columns are {shown}{' …' if len(known) > 40 else ''}."


def _require_bound(connection: DuckDBPyConnection, query: str, question: Question) -> None:
    """Refuses a condition over columns that are not there, or of other types."""
    import duckdb

    try:
        connection.execute(f"EXPLAIN {query}")
    except duckdb.Error as exc:
        if not _is_mistake(exc, question):
            raise
        known = [row[0] for row in connection.execute("DESCRIBE predictions").fetchall()]
        raise _unusable(exc, _columns_are(known)) from exc


def _rows(connection: DuckDBPyConnection, query: str) -> Iterator[dict[str, Any]]:
    for batch in connection.execute(query).to_arrow_reader(1024):
        for row in batch.to_pylist():
            yield {name: _plain(value) for name, value in row.items()}


@contextmanager
def _told_mistakes(question: Question) -> Iterator[None]:
    """Tells the condition's mistakes, which may show with the first row that they meet.

    Raises:
        InvalidRequest: the condition cannot be used.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as exc:
        if not _is_mistake(exc, question):
            raise
        next_step = "Use `TRY_CAST` or `try_strptime` where a value may not be of the type."
        raise _unusable(exc, next_step) from exc


def _is_mistake(exc: Exception, question: Question) -> bool:
    """Whether it is the condition's: of damaged files, DuckDB says the same kind of error, with their path."""
    import duckdb

    kinds = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError)
    text = str(exc)
    return (
        bool(question.where.strip())
        and isinstance(exc, kinds)
        and not any(path in text for path in question.files.paths)
    )


def _unusable(exc: Exception, next_step: str) -> InvalidRequest:
    return InvalidRequest(
        f"The condition cannot be used: {reason_of(exc)}.", next_step=next_step, path="where"
    )


def _plain(value: Any) -> Any:
    """What JSON can hold: infinities are texts, maps objects, wide integers integers."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, list):
        if value and isinstance(value[0], tuple):
            return {key: _plain(item) for key, item in value}
        return [_plain(item) for item in value]
    return value


def _about_request(connection: DuckDBPyConnection, request_id: str) -> dict[str, Any]:
    mine = f"_request_id = {literal(request_id)}"
    predictions = list(
        _rows(
            connection,
            f"SELECT * FROM predictions WHERE {mine} ORDER BY _at, _role, _row LIMIT 10000",
        )
    )
    attributed(connection, request_id)
    feedback = _rows(connection, "SELECT * FROM attributed ORDER BY _at LIMIT 10000")
    said = [{**row, "outcomes": row["outcomes"] or {}} for row in feedback]
    return {"predictions": predictions, "feedback": said}


def _write_json(out: Path, value: Any) -> None:
    encoded = msgspec.json.encode(value)
    if len(encoded) > MOST_JSON_BYTES:
        raise InvalidRequest(
            f"The answer has more than {MOST_JSON_BYTES // 1024**2} MB of JSON.",
            next_step="Ask for fewer rows or columns, or for `parquet`.",
        )
    out.write_bytes(encoded)
