"""Rows as lines that are the same for every database, and back."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.core.backups import ColumnFacts, Kind, TableFacts
from shipway.core.errors import Bug

_FETCH = 100
"""Rows in memory at once: one may hold a manifest of megabytes."""

_KINDS: tuple[tuple[type[sa.types.TypeEngine[Any]], Kind], ...] = (
    (sa.Boolean, Kind.BOOLEAN),
    (sa.Integer, Kind.INTEGER),
    (sa.Float, Kind.FLOAT),
    (sa.DateTime, Kind.INSTANT),
    (sa.LargeBinary, Kind.BYTES),
    (sa.JSON, Kind.JSON),
    (sa.String, Kind.TEXT),
)


def columns_of(table: sa.Table) -> tuple[ColumnFacts, ...]:
    """The columns of a table, in its order.

    Raises:
        Bug: one has a type that backups do not know.
    """
    return tuple(ColumnFacts(name=str(column.name), kind=_kind(column)) for column in table.columns)


def _kind(column: sa.Column[Any]) -> Kind:
    for kind, named in _KINDS:
        if isinstance(column.type, kind):
            return named
    raise Bug(
        f"Column `{column.table.name}.{column.name}` of type `{column.type}` cannot be backed up.",
        next_step="Report it.",
    )


class Count:
    """What the rows of one table come to, as they pass."""

    def __init__(self, name: str, columns: tuple[ColumnFacts, ...]) -> None:
        self._name = str(name)
        self._columns = columns
        self._digest = sha256()
        self.rows = 0

    def add(self, line: bytes) -> bytes:
        """Counts a row's line, and gives it on."""
        self._digest.update(line)
        self.rows += 1
        return line

    @property
    def facts(self) -> TableFacts:
        """The table, with what was counted so far."""
        return TableFacts(
            name=self._name, columns=self._columns, rows=self.rows, sha256=self._digest.hexdigest()
        )


def lines_of(connection: sa.Connection, table: sa.Table, count: Count) -> Iterator[bytes]:
    """Each row as a line, in key order; counted."""
    encoders = [_ENCODERS.get(column.kind, _as_it_is) for column in columns_of(table)]
    query = sa.select(table).order_by(*_in_key_order(table, connection.dialect.name))
    options = {"stream_results": True, "yield_per": _FETCH}
    with connection.execute(query, execution_options=options) as rows:
        for row in rows:
            pairs = zip(encoders, row, strict=True)
            values = [None if value is None else encode(value) for encode, value in pairs]
            yield count.add(msgspec.json.encode(values, order="sorted") + b"\n")


def _in_key_order(table: sa.Table, dialect: str) -> Iterator[sa.ColumnElement[Any]]:
    for column in list(table.primary_key) or list(table.columns):
        # PostgreSQL sorts text by the database's locale, SQLite by bytes.
        by_bytes = dialect == "postgresql" and isinstance(column.type, sa.String)
        yield sa.collate(column, "C") if by_bytes else column


def values_of(lines: Iterable[bytes], columns: tuple[ColumnFacts, ...]) -> Iterator[dict[str, Any]]:
    """Each line as a row for an insert.

    Raises:
        msgspec.MsgspecError, ValueError: a line is not one that `lines_of` gives.
    """
    decoders = [_DECODERS.get(column.kind, _as_it_is) for column in columns]
    names = [column.name for column in columns]
    for line in lines:
        pairs = zip(names, decoders, msgspec.json.decode(line, type=list[Any]), strict=True)
        yield {name: None if value is None else decode(value) for name, decode, value in pairs}


def insertable(table: TableFacts, dialect: str) -> sa.TableClause:
    """The table for inserts; what its columns hold comes from the backup, not from this release."""
    types = {**_TYPES, Kind.INSTANT: sa.DateTime(timezone=dialect != "sqlite")}
    columns = [sa.column(column.name, types[column.kind]) for column in table.columns]
    return sa.table(table.name, *columns)


_TYPES: dict[Kind, sa.types.TypeEngine[Any]] = {
    Kind.TEXT: sa.Text(),
    Kind.INTEGER: sa.BigInteger(),
    Kind.FLOAT: sa.Float(53),
    Kind.BOOLEAN: sa.Boolean(),
    Kind.BYTES: sa.LargeBinary(),
    Kind.JSON: sa.JSON(),
}


def _as_it_is(value: Any) -> Any:
    return value


def _written_instant(value: datetime) -> datetime:
    # SQLite keeps no time zone; what Shipway writes there is UTC.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _written_float(value: float) -> float | str:
    # JSON has no infinity; SQLite keeps no minus zero, which equals zero.
    return float(value) + 0.0 if math.isfinite(value) else repr(float(value))


_ENCODERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.INSTANT: _written_instant,
    Kind.FLOAT: _written_float,
    Kind.BOOLEAN: bool,
}
_DECODERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.INSTANT: datetime.fromisoformat,
    Kind.FLOAT: float,
    Kind.BYTES: base64.b64decode,
}
