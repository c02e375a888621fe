"""Rows as lines: the same order and the same bytes, whatever the database."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite

from shipway.core.backups import (
    AuditHead,
    BackupManifest,
    BundleFacts,
    ColumnFacts,
    Kind,
    TableFacts,
    differing_tables,
)
from shipway.core.errors import Bug
from shipway.store.backups.rows import (
    Count,
    _in_key_order,
    _written_float,
    columns_of,
    lines_of,
    values_of,
)
from shipway.store.sql.tables import versions

NOW = datetime(2026, 5, 6, 7, 8, 9, 12, tzinfo=UTC)

EVERY = sa.Table(
    "every",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text),
    sa.Column("number", sa.Float(53)),
    sa.Column("yes", sa.Boolean),
    sa.Column("at", sa.DateTime),
    sa.Column("data", sa.LargeBinary),
    sa.Column("facts", sa.JSON),
)


def test_postgresql_is_told_to_sort_text_by_bytes_as_sqlite_does() -> None:
    # The servers of the tests know no other order; those of others do.
    query = sa.select(versions.c.digest)
    ordered = query.order_by(*_in_key_order(versions, "postgresql"))
    text = str(ordered.compile(dialect=postgresql.dialect()))
    assert text.endswith('ORDER BY versions.model COLLATE "C", versions.number')
    plain = str(
        query.order_by(*_in_key_order(versions, "sqlite")).compile(dialect=sqlite.dialect())
    )
    assert plain.endswith("ORDER BY versions.model, versions.number")


def test_column_of_an_unknown_type_is_a_bug_that_names_it() -> None:
    table = sa.Table("odd", sa.MetaData(), sa.Column("span", sa.Interval))
    with pytest.raises(Bug, match=r"odd\.span"):
        columns_of(table)


def test_minus_zero_which_only_postgresql_keeps_is_written_as_zero() -> None:
    assert math.copysign(1, _written_float(-0.0)) == 1
    assert [_written_float(value) for value in (0.1, -0.1, math.inf)] == [0.1, -0.1, "inf"]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
            "number": st.none() | st.floats(allow_nan=False),
            "yes": st.none() | st.booleans(),
            "at": st.none() | st.datetimes(),
            "data": st.none() | st.binary(),
            "facts": st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.none()),
        }
    ),
    max_size=5,
)


@given(ROWS)
def test_any_row_is_read_back_from_its_line_as_it_was(rows: list[dict[str, Any]]) -> None:
    engine = sa.create_engine("sqlite://")
    EVERY.metadata.create_all(engine)
    wanted = [row | {"id": number} for number, row in enumerate(rows)]
    count = Count("every", columns_of(EVERY))
    with engine.begin() as connection:
        if wanted:
            connection.execute(sa.insert(EVERY), wanted)
        lines = list(lines_of(connection, EVERY, count))
    engine.dispose()
    assert count.facts.rows == len(rows)
    for line, row in zip(lines, wanted, strict=True):
        assert line.endswith(b"\n")
        assert b"\n" not in line[:-1]
        (found,) = values_of([line], columns_of(EVERY))
        if row["at"] is not None:
            row = row | {"at": row["at"].replace(tzinfo=UTC)}
        assert found == row


def manifest(*tables: TableFacts) -> BackupManifest:
    return BackupManifest(
        format=1, created_at=NOW, release="0", schema="0001", tables=tables,
        audit=AuditHead(), bundles=BundleFacts(), files=(),
    )  # fmt: skip


def test_tables_that_differ_in_rows_or_bytes_or_are_missing_are_named() -> None:
    columns = (ColumnFacts(name="a", kind=Kind.TEXT),)
    one = TableFacts(name="one", columns=columns, rows=1, sha256="a")
    two = TableFacts(name="two", columns=columns, rows=2, sha256="b")
    wanted = manifest(one, two)
    assert wanted.rows == 3
    assert differing_tables(wanted, (two, one)) == []
    # A table that came with a migration has rows of its own.
    assert differing_tables(wanted, (one, two, msgspec.structs.replace(one, name="new"))) == []
    assert differing_tables(wanted, (one,)) == ["two"]
    assert differing_tables(wanted, (one, msgspec.structs.replace(two, rows=1))) == ["two"]
    assert differing_tables(wanted, (msgspec.structs.replace(one, sha256="c"), two)) == ["one"]
