"""Rows at the edge of what a signature allows: where two forms of a model are likeliest to differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import NUMPY_OF, Array, DataType, null_mask

UNSEEN_TEXT = "shipway-unseen"
"""A category that no model was trained on."""

_HUGE = 1e9
_MAX_VARIED = 64
_MAX_CATEGORIES = 20

Row = dict[str, Any]


class EdgeRows(msgspec.Struct, frozen=True, kw_only=True):
    """Edge rows as inputs of an engine, and what is special about each, in the same order."""

    inputs: dict[str, Array]
    labels: tuple[str, ...]

    def row(self, index: int) -> dict[str, Array]:
        """One of the rows, as inputs of an engine."""
        return {name: array[index : index + 1] for name, array in self.inputs.items()}


def edge_rows(signature: Signature, seen: Mapping[str, Array] | None = None) -> EdgeRows:
    """Rows with nulls, zeros, unseen categories, and the extremes of the range and far beyond.

    One value is varied at a time around a usual row, then all together. `seen` are rows of the
    sample, which say what is usual. What the signature *declares* is kept: rows outside a declared
    range or set of categories never reach a model.
    """
    if signature.layout is Layout.TENSORS:
        return _tensor_edges(signature, seen or {})
    fields = signature.inputs
    columns = {field.name: (seen or {}).get(field.name) for field in fields}
    edges = {field.name: list(_edges(field, columns[field.name])) for field in fields}
    usual = {field.name: _usual(field, columns[field.name]) for field in fields}
    rows = list(_varied(usual, edges))
    arrays = {
        field.name: np.array([row[field.name] for _, row in rows], dtype=NUMPY_OF[field.dtype])
        for field in fields
    }
    return EdgeRows(inputs=arrays, labels=tuple(label for label, _ in rows))


Edge = tuple[str, Any]


def _varied(usual: Row, edges: Mapping[str, Sequence[Edge]]) -> Iterator[tuple[str, Row]]:
    yield "a usual row", usual
    names = list(edges)
    step = max(1, -(-len(names) // _MAX_VARIED))
    for name in names[::step]:
        for label, value in edges[name]:
            yield f"{label} in `{name}`", {**usual, name: value}
    for label in dict.fromkeys(label for found in edges.values() for label, _ in found):
        together = {n: dict(found)[label] for n, found in edges.items() if label in dict(found)}
        yield f"{label} in all columns", {**usual, **together}


def _usual(field: Field, seen: Array | None) -> Any:
    """A value from the middle of what was seen."""
    if seen is not None and len(seen):
        present = seen[~null_mask(seen)]
        if len(present):
            return np.sort(present)[len(present) // 2]
    if not field.dtype.is_numeric:
        return (field.categories or ("",))[0]
    low, high = field.minimum or 0.0, field.maximum or 0.0
    return _fitted((low + high) / 2, field.dtype)


def _edges(field: Field, seen: Array | None) -> Iterator[Edge]:
    if field.dtype is DataType.BOOL:
        yield from (("false", False), ("true", True))
    elif field.dtype.is_numeric:
        yield from _number_edges(field, *_range(field, seen))
    else:
        yield from _text_edges(field, seen)
    if field.nullable and field.dtype.is_float:
        yield "null", np.nan
    elif field.nullable and not field.dtype.is_numeric:
        yield "null", None


def _range(field: Field, seen: Array | None) -> tuple[float, float]:
    present = seen[~null_mask(seen)] if seen is not None else ()
    low, high = (float(np.min(present)), float(np.max(present))) if len(present) else (0.0, 1.0)
    low = field.minimum if field.minimum is not None else low
    return low, field.maximum if field.maximum is not None else high


def _number_edges(field: Field, low: float, high: float) -> Iterator[Edge]:
    span = (high - low) or 1.0
    wanted = {
        "smallest value": low,
        "largest value": high,
        "zero": 0.0,
        "a value far below the range": low - 10 * span,
        "a value far above the range": high + 10 * span,
        "a huge negative value": -_HUGE,
        "a huge value": _HUGE,
    }
    for label, value in wanted.items():
        below = "minimum" in field.declared and value < low
        above = "maximum" in field.declared and value > high
        if not (below or above):
            yield label, _fitted(value, field.dtype)


def _fitted(value: float, dtype: DataType) -> float | int:
    """The value, brought into what the dtype can hold."""
    if dtype is DataType.BOOL:
        return value != 0
    if dtype.is_float:
        limit = float(np.finfo(NUMPY_OF[dtype]).max)
        return max(-limit, min(limit, value))
    bounds = np.iinfo(NUMPY_OF[dtype])
    return max(int(bounds.min), min(int(bounds.max), int(value)))


def _text_edges(field: Field, seen: Array | None) -> Iterator[Edge]:
    known = field.categories
    if known is None and seen is not None:
        known = tuple(sorted({str(item) for item in seen[~null_mask(seen)]}))
    for category in (known or ())[:_MAX_CATEGORIES]:
        yield f"category `{category}`", category
    if "categories" not in field.declared:
        yield "an unseen category", UNSEEN_TEXT
        yield "an empty text", ""


def _tensor_edges(signature: Signature, seen: Mapping[str, Array]) -> EdgeRows:
    """A matrix is varied like a table; other tensors are filled whole."""
    only = signature.inputs[0]
    if len(signature.inputs) == 1 and len(only.shape) == 2 and only.dtype.is_numeric:
        matrix = seen.get(only.name)
        width = matrix.shape[1] if matrix is not None else max(only.shape[1], 1)
        return _matrix_edges(only, matrix, width)
    filled = {field.name: _filled(field, seen.get(field.name)) for field in signature.inputs}
    labels = ("zeros", "ones", "the first row of the sample")
    rows = min(len(array) for array in filled.values())
    return EdgeRows(inputs={n: a[:rows] for n, a in filled.items()}, labels=labels[:rows])


def _matrix_edges(field: Field, matrix: Array | None, width: int) -> EdgeRows:
    column = msgspec.structs.replace(field, shape=(-1,))
    fields = tuple(msgspec.structs.replace(column, name=f"{field.name}[{i}]") for i in range(width))
    table = Signature(layout=Layout.COLUMNS, inputs=fields, outputs=())
    seen = None if matrix is None else {f.name: matrix[:, i] for i, f in enumerate(fields)}
    found = edge_rows(table, seen)
    stacked = np.stack([found.inputs[f.name] for f in fields], axis=1)
    return EdgeRows(inputs={field.name: stacked}, labels=found.labels)


def _filled(field: Field, seen: Array | None) -> Array:
    """Rows of zeros and of ones (or of texts), then the first row of the sample when there is one."""
    first = seen[:1] if seen is not None else None
    shape = first.shape[1:] if first is not None else tuple(max(d, 1) for d in field.shape[1:])
    dtype = NUMPY_OF[field.dtype]
    zero, one = (0, 1) if field.dtype.is_numeric else ("", UNSEEN_TEXT)
    rows = [np.full((1, *shape), zero, dtype=dtype), np.full((1, *shape), one, dtype=dtype)]
    return np.concatenate([*rows, first.astype(dtype)] if first is not None else rows)
