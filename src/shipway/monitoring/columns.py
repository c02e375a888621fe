"""Which columns of the prediction log are summarised, and their expressions in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb
import msgspec

from shipway.core.captures import columns_of
from shipway.core.profile import ColumnKind
from shipway.core.signature import Field
from shipway.core.tensors import DataType

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


def types_of(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The type of each column of the view `predictions`, as DuckDB writes it."""
    rows = connection.execute("DESCRIBE predictions").fetchall()
    return {str(name): str(kind) for name, kind, *_ in rows}


def expression_of(column: Column, kind: str) -> str:
    """A column's value in SQL, for a view whose column is of that type: a number, or a text."""
    value = quoted(column.source)
    if column.element is not None:
        value = f"{value}[{column.element + 1}]"
        kind = kind.removesuffix("[]")
    if column.kind is ColumnKind.NUMERIC:
        return value if kind == "FLOAT" else f"{value}::DOUBLE"
    return f"{value}::VARCHAR"


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever letters it has."""
    return '"' + name.replace('"', '""') + '"'


def is_there(column: Column, types: dict[str, str]) -> bool:
    """Whether the view has the column, as a list where one of its values is asked for."""
    kind = types.get(column.source)
    return kind is not None and kind.endswith("[]") == (column.element is not None)


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
