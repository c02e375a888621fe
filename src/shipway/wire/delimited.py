"""CSV bodies: text cells become a model's inputs, outputs become lines. RFC 4180, UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from shipway.core.errors import InvalidRequest
from shipway.core.outputs import Outputs
from shipway.core.signature import Field, Signature
from shipway.core.tensors import Array, DataType
from shipway.wire.predictions import plain
from shipway.wire.rows import inputs_of_table, matrix_of, require_distinct

_NULLS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "None"})
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_MOST_DIGITS = 400


class Header(Enum):
    """Whether the first line names the columns."""

    PRESENT = "present"
    ABSENT = "absent"
    """The columns are in the order of the signature."""

    UNSAID = "unsaid"
    """It does when one of its cells is the name of an input, or is no number where all must be."""


def header_of(parameters: dict[str, str], default: Header) -> Header:
    """What the media type's `header` parameter says (RFC 4180, section 3)."""
    given = parameters.get("header", "").lower()
    return Header(given) if given in ("present", "absent") else default


def inputs_of_csv(body: bytes, signature: Signature, header: Header) -> dict[str, Array]:
    """The inputs in a CSV body.

    An empty cell is null; so is `NA`, `NaN`, `null` or `None` where numbers are.

    Raises:
        InvalidRequest: not UTF-8, not CSV, no rows, lines of different lengths, a column twice.
    """
    lines = _lines(body)
    names = _names(lines, signature, header)
    rows = lines[1:] if names is not None else lines
    if not rows:
        raise InvalidRequest("The CSV has no rows.", next_step="Send a line per row.")
    if names is None:
        names = _names_in_order(signature, len(rows[0]))
    fields = {field.name: field for field in signature.inputs}
    matrix = matrix_of(signature)
    columns = [
        _column(cells, fields.get(name, matrix))
        for name, cells in zip(names, zip(*rows, strict=True), strict=True)
    ]
    return inputs_of_table(names, columns, signature)


def csv_of(outputs: Outputs, *, header: bool) -> bytes:
    """The outputs as lines, one per row; an output of several columns is `name_0`, `name_1` and so on.

    Raises:
        InvalidRequest: an output has more than two dimensions, or they differ in rows.
    """
    names: list[str] = []
    columns: list[Sequence[Any]] = []
    for name, array in outputs.items():
        for column_name, column in flat_columns(name, array):
            names.append(column_name)
            columns.append(plain(column))
    if len({len(column) for column in columns}) > 1:
        raise InvalidRequest("The model's outputs differ in their numbers of rows.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(names)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))
    return text.getvalue().encode()


def flat_columns(name: str, array: Array) -> Iterable[tuple[str, Array]]:
    """An output's columns with their names: itself, or one for each place of its second dimension.

    Raises:
        InvalidRequest: it has more than two dimensions.
    """
    if array.ndim < 2:
        return [(name, array.reshape(-1))]
    if array.ndim > 2:
        raise InvalidRequest(
            f"Output `{name}` has {array.ndim} dimensions: CSV has no form for it."
        )
    return [(f"{name}_{at}", array[:, at]) for at in range(array.shape[1])]


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _lines(body: bytes) -> list[list[str]]:
    try:
        text = body.decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"The CSV is not UTF-8: {exc}.", position=exc.start) from exc
    except csv.Error as exc:
        raise InvalidRequest(f"The body is not CSV: {exc}.") from exc
    if not lines:
        raise InvalidRequest("The CSV is empty.", next_step="Send a line per row.")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(lines[0]):
            raise InvalidRequest(
                f"Line {number} of the CSV has {len(line)} cells, the first has {len(lines[0])}.",
                line=number,
            )
    return lines


def _names(lines: list[list[str]], signature: Signature, header: Header) -> list[str] | None:
    first = [cell.strip() for cell in lines[0]]
    if header is Header.UNSAID:
        known = set(signature.input_names())
        matrix = matrix_of(signature)
        named = any(cell in known for cell in first)
        if not named and (matrix is None or all(_is_numeral(cell) for cell in first)):
            return None
    elif header is Header.ABSENT:
        return None
    require_distinct(first)
    return first


def _names_in_order(signature: Signature, width: int) -> list[str]:
    names = signature.input_names()
    matrix = matrix_of(signature)
    if matrix is not None and matrix.shape[1] in (-1, width):
        return [str(at) for at in range(width)]
    if len(names) != width:
        raise InvalidRequest(
            f"A line of the CSV has {width} cells; the model takes {len(names)} inputs.",
            next_step=f"Send these columns: {', '.join(names[:20])}.",
        )
    return list(names)


def _column(cells: Sequence[str], field: Field | None) -> Array:
    if field is None or not field.dtype.is_numeric:
        return _texts(cells, field)
    if field.dtype is DataType.BOOL:
        return _objects([_boolean(cell.strip()) for cell in cells])
    try:
        return np.array(cells, dtype=np.float64 if field.dtype.is_float else np.int64)
    except (ValueError, OverflowError):
        return _objects([_number(cell.strip()) for cell in cells])


def _texts(cells: Sequence[str], field: Field | None) -> Array:
    empty = None if field is not None and field.nullable else ""
    return _objects([cell or empty for cell in cells])


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _boolean(cell: str) -> bool | str | None:
    return None if cell in _NULLS else _BOOLEANS.get(cell.lower(), cell)


def _number(cell: str) -> float | str | None:
    """The number; the text itself where it is none, for the validator to name."""
    if cell in _NULLS:
        return None
    if len(cell) > _MOST_DIGITS:
        return cell
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _is_numeral(cell: str) -> bool:
    return not isinstance(_number(cell), str)
