"""Which columns of the prediction log are summarised, and their expressions in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb
import msgspec

from shipway.core.captures import columns_of
from shipway.core.profile import ColumnKind
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.monitoring.tallies import MISSING, OTHER

MOST_ELEMENTS = 1000
"""A wider matrix is left out, as it is in baseline profiles."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of the view `predictions` that is summarised, as `name` in the summary.

    `source` is the view's column. `element` picks one of its values (from 0) where it holds a list.
    `is_input` tells inputs from outputs.
    """

    name: str
    source: str
    kind: ColumnKind
    element: int | None = None
    is_input: bool = True


def columns_to_watch(
    inputs: Sequence[Field], outputs: Sequence[Field], *, is_batchable: bool = True
) -> tuple[Column, ...]:
    """The columns of a version's predictions: inputs as the baseline profile names them, and outputs.

    Feature 3 of the matrix `X` is `X[3]`. An output that is called like an input is named as in the
    view, `out.age`. Raw bytes and tensors of more dimensions have none.
    """
    ins, outs = columns_of([one.name for one in inputs], [one.name for one in outputs])
    found: list[Column] = []
    for one in inputs:
        found += _columns(one, one.name, ins[one.name], is_batchable=is_batchable)
    for one in outputs:
        name = outs[one.name] if outs[one.name] in ins else one.name
        name = outs[one.name] if one.name in ins else name
        found += [
            msgspec.structs.replace(column, is_input=False)
            for column in _columns(one, name, outs[one.name], is_batchable=is_batchable)
        ]
    return tuple(found)


class Typed(msgspec.Struct, frozen=True, kw_only=True):
    """A column that the view has, with the type of its values there."""

    column: Column
    type: str


def typed(connection: duckdb.DuckDBPyConnection, columns: Sequence[Column]) -> list[Typed]:
    """Those of the columns that the view has, as a list where one of its values is asked for."""
    rows = connection.execute("DESCRIBE predictions").fetchall()
    types = {str(name): str(kind) for name, kind, *_ in rows}
    return [
        Typed(column=column, type=types[column.source].removesuffix("[]"))
        for column in columns
        if column.source in types
        and types[column.source].endswith("[]") == (column.element is not None)
    ]


def is_single(typed: Typed) -> bool:
    """Whether its numbers are floats of single precision."""
    return typed.type == "FLOAT"


def value_of(typed: Typed) -> str:
    """A column's value in SQL, a number or a text."""
    value = quoted(typed.column.source)
    if typed.column.element is not None:
        value = f"{value}[{typed.column.element + 1}]"
    if typed.column.kind is not ColumnKind.NUMERIC:
        return f"{value}::VARCHAR"
    return value if is_single(typed) else f"{value}::DOUBLE"


def code_of(typed: Typed, categories: Sequence[str]) -> str:
    """A column's value in SQL as `tallies` counts it: a number with NaN for NULL, or a category's code."""
    value = value_of(typed)
    if typed.column.kind is ColumnKind.NUMERIC:
        return f"coalesce({value}, 'NaN'::{'FLOAT' if is_single(typed) else 'DOUBLE'})"
    # Done once for each word of a Parquet dictionary, so it is faster than a cast to an ENUM.
    place = f"list_position([{', '.join(map(literal, categories))}]::VARCHAR[], {value})"
    return f"CASE WHEN {value} IS NULL THEN {MISSING} ELSE coalesce({place}, {OTHER}) END::INTEGER"


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever letters it has."""
    return '"' + name.replace('"', '""') + '"'


def _columns(field: Field, name: str, source: str, *, is_batchable: bool) -> Iterator[Column]:
    if field.dtype is DataType.BYTES:
        return
    shape, kind = field.shape[1:] if is_batchable else field.shape, _kind(field.dtype)
    if not shape:
        yield Column(name=name, source=source, kind=kind)
    elif len(shape) == 1 and 0 < shape[0] <= MOST_ELEMENTS:
        for at in range(shape[0]):
            yield Column(name=f"{name}[{at}]", source=source, kind=kind, element=at)


def _kind(dtype: DataType) -> ColumnKind:
    if dtype is DataType.BOOL:
        return ColumnKind.BOOLEAN
    return ColumnKind.NUMERIC if dtype.is_numeric else ColumnKind.CATEGORICAL
