"""Do a request's arrays follow the signature? Compiled once per version, run per request.

Conforming means: every input present, none unknown, shapes as declared, values castable to the
dtype without loss of meaning, nulls only where allowed, declared ranges and categories kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shipway.core.errors import InvalidInput, InvalidRequest, NotFound
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import NUMPY_OF, Array, DataType

Conform = Callable[[Mapping[str, Array]], dict[str, Array]]
_FieldCheck = Callable[[Array], Array]

_ANSWERED_BITS = 63
_LARGEST = int(np.finfo(np.float64).max)
"""JSON has larger integers; no data type does."""

MATRIX_INPUT = "input"
"""A table of numeric columns may also be sent as one tensor [rows, columns] of this name."""


def compile_validator(signature: Signature) -> Conform:
    """The function that gives a request's inputs in signature order, dtype and shape.

    Its errors: InvalidRequest for an unknown or duplicate-shaped tensor (a matter of form),
    InvalidInput for a missing column, a wrong dtype, null, range or category (a matter of content).
    """
    checks = {field.name: _field_check(field, signature.layout) for field in signature.inputs}
    is_table = signature.layout is Layout.COLUMNS
    takes_matrix = (
        is_table
        and MATRIX_INPUT not in checks
        and all(field.dtype.is_numeric for field in signature.inputs)
    )
    names = tuple(checks)

    def conform(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if takes_matrix and len(inputs) == 1 and MATRIX_INPUT in inputs:
            inputs = _columns_of(inputs[MATRIX_INPUT], names)
        if len(inputs) != len(checks) or any(name not in checks for name in inputs):
            _refuse_names(inputs, names)
        conformed = {name: check(inputs[name]) for name, check in checks.items()}
        if is_table:
            _require_equal_rows(conformed)
        return conformed

    return conform


def _columns_of(matrix: Array, names: tuple[str, ...]) -> dict[str, Array]:
    if matrix.ndim != 2 or matrix.shape[1] != len(names):
        raise InvalidRequest(
            f"Tensor `{MATRIX_INPUT}` has shape {list(matrix.shape)}; this model has"
            f" {len(names)} columns.",
            next_step=f"Send [rows, {len(names)}] in the order of the model's metadata.",
            path="inputs",
        )
    return {name: matrix[:, position] for position, name in enumerate(names)}


def _refuse_names(inputs: Mapping[str, Array], names: tuple[str, ...]) -> None:
    unknown = [name for name in inputs if name not in names]
    if unknown:
        named = NotFound.named(unknown[0], names)
        hint = f" Did you mean `{named.details['nearest']}`?" if named.details["nearest"] else ""
        raise InvalidRequest(
            f"The model has no input `{unknown[0]}`.{hint}",
            next_step=f"Its inputs are: {_listed(names)}.",
            path="inputs",
            name=unknown[0],
        )
    missing = next(name for name in names if name not in inputs)
    raise InvalidInput(
        f"Input `{missing}` is missing.",
        next_step=f"Send all of: {_listed(names)}.",
        column=missing,
        row=None,
        rule="required",
        value=None,
    )


def _listed(names: tuple[str, ...], most: int = 20) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _require_equal_rows(columns: Mapping[str, Array]) -> None:
    lengths = {len(array) for array in columns.values()}
    if len(lengths) > 1:
        raise InvalidRequest(
            f"Columns have different numbers of rows: {sorted(lengths)}.",
            next_step="Send one value per row in each column.",
            path="inputs",
        )


def _field_check(field: Field, layout: Layout) -> _FieldCheck:
    shaped = _column_shape(field) if layout is Layout.COLUMNS else _tensor_shape(field)
    typed = _numeric(field) if field.dtype.is_numeric else _text(field)
    rules = _declared_rules(field)
    if not rules:
        return lambda array: typed(shaped(array))

    def check(array: Array) -> Array:
        array = typed(shaped(array))
        for rule in rules:
            rule(array)
        return array

    return check


def _column_shape(field: Field) -> _FieldCheck:
    def shaped(array: Array) -> Array:
        if array.ndim == 1:
            return array
        if array.ndim == 2 and array.shape[1] == 1:
            return array[:, 0]
        raise _wrong_shape(field, array, "[rows] or [rows, 1]")

    return shaped


def _tensor_shape(field: Field) -> _FieldCheck:
    rank = len(field.shape)
    fixed = tuple((axis, size) for axis, size in enumerate(field.shape) if size >= 0)

    def shaped(array: Array) -> Array:
        shape = array.shape
        if len(shape) != rank:
            raise _wrong_shape(field, array, str(list(field.shape)))
        for axis, size in fixed:
            if shape[axis] != size:
                raise _wrong_shape(field, array, str(list(field.shape)))
        return array

    return shaped


def _wrong_shape(field: Field, array: Array, wanted: str) -> InvalidRequest:
    return InvalidRequest(
        f"Input `{field.name}` has shape {list(array.shape)}; it must be {wanted}.",
        next_step="Dimensions of -1 may have any size.",
        path=f"inputs.{field.name}.shape",
        name=field.name,
    )


def _numeric(field: Field) -> _FieldCheck:
    target = NUMPY_OF[field.dtype]
    refuse_nan = field.dtype.is_float and not field.nullable
    keeps = _kinds_kept(field.dtype)

    def typed(array: Array) -> Array:
        if array.dtype != target:
            array = _narrowed(field, array) if array.dtype.kind in keeps else _cast(field, array)
        if refuse_nan and np.isnan(array).any():
            _refuse_null(field, np.isnan(array))
        return array

    return typed


def _narrowed(field: Field, array: Array) -> Array:
    """The array in the field's dtype; a number too large for it is refused, not made infinite."""
    try:
        with np.errstate(over="raise"):
            return array.astype(NUMPY_OF[field.dtype])
    except FloatingPointError:
        with np.errstate(over="ignore"):
            lost = np.isinf(array.astype(NUMPY_OF[field.dtype])) & np.isfinite(array)
        raise _invalid(field, array, lost, f"dtype {field.dtype}") from None


def _kinds_kept(dtype: DataType) -> str:
    """The numpy kinds that cast to the data type without a check of each value."""
    if dtype.is_float:
        return "fiu"
    return "b" if dtype is DataType.BOOL else ""


def _cast(field: Field, array: Array) -> Array:
    if array.dtype.kind in "OUS":
        array = _numbers(field, array)
    target = NUMPY_OF[field.dtype]
    if array.dtype.kind == "f" and field.dtype.is_integer and np.isnan(array).any():
        if not field.nullable:
            _refuse_null(field, np.isnan(array))
        return array.astype(np.float64)  # a nullable integer column travels as floats
    if array.dtype.kind == "b" and target.kind != "b":
        raise _invalid(field, array, np.ones(array.shape, bool), f"dtype {field.dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(target)
        changed = cast != array
    if changed.any() and not field.dtype.is_float:
        raise _invalid(field, array, changed, f"dtype {field.dtype}")
    return cast


def _numbers(field: Field, array: Array) -> Array:
    """An array of Python objects as numbers; null becomes NaN where allowed."""
    items = array.ravel().tolist()
    nulls = np.array([item is None for item in items], dtype=bool).reshape(array.shape)
    if nulls.any() and not field.nullable:
        _refuse_null(field, nulls)
    foreign = np.array(
        [not (item is None or _is_number(item, field.dtype)) for item in items], dtype=bool
    ).reshape(array.shape)
    if foreign.any():
        raise _invalid(field, array, _likeliest(items, foreign), f"dtype {field.dtype}")
    if nulls.any():
        return np.array(
            [np.nan if item is None else item for item in items], dtype=np.float64
        ).reshape(array.shape)
    natural = np.array(items) if items else np.empty(0, NUMPY_OF[field.dtype])
    if natural.dtype.kind == "O":
        if (
            field.dtype.is_integer
        ):  # of more than 64 bits, and as floats they could come near one that fits
            wide = np.array([not -(2**63) <= item < 2**64 for item in items], dtype=bool)
            raise _invalid(field, array, wide.reshape(array.shape), f"dtype {field.dtype}")
        natural = np.array(items, dtype=np.float64)
    return natural.reshape(array.shape)


def _likeliest(items: list[Any], foreign: Array) -> Array:
    """Of the `foreign` values those that are no number in text either, when there are any.

    One word in a CSV column makes texts of all its numbers; the word is what went wrong.
    """
    words = np.array([isinstance(item, str) and not _is_numeral(item) for item in items])
    words = words.reshape(foreign.shape)
    return words if words.any() else foreign


def _is_numeral(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_number(item: Any, dtype: DataType) -> bool:
    if dtype is DataType.BOOL:
        return isinstance(item, bool)
    if isinstance(item, int):
        return not isinstance(item, bool) and abs(item) <= _LARGEST
    return isinstance(item, float)


def _text(field: Field) -> _FieldCheck:
    wanted = bytes if field.dtype is DataType.BYTES else str
    nullable = field.nullable

    def typed(array: Array) -> Array:
        if array.dtype.kind != "O":
            array = array.astype(object)
        items = [_as_kind(item, wanted) for item in array.ravel().tolist()]
        foreign = [
            not isinstance(item, wanted) and not (item is None and nullable) for item in items
        ]
        if any(foreign):
            mask = np.array(foreign, dtype=bool).reshape(array.shape)
            first = items[foreign.index(True)]
            if first is None:
                _refuse_null(field, mask)
            raise _invalid(field, array, mask, f"dtype {field.dtype}")
        clean = np.empty(len(items), dtype=object)
        clean[:] = items
        return clean.reshape(array.shape)

    return typed


def _as_kind(item: Any, wanted: type) -> Any:
    if wanted is str and isinstance(item, bytes):
        try:
            return item.decode()
        except UnicodeDecodeError:
            return item
    if wanted is bytes and isinstance(item, str):
        return item.encode()
    return None if isinstance(item, float) and np.isnan(item) else item


def _declared_rules(field: Field) -> tuple[Callable[[Array], None], ...]:
    rules: list[Callable[[Array], None]] = []
    if "minimum" in field.declared and field.minimum is not None:
        low = field.minimum
        rules.append(lambda array: _require(field, array, array < low, f"minimum {low:g}"))
    if "maximum" in field.declared and field.maximum is not None:
        high = field.maximum
        rules.append(lambda array: _require(field, array, array > high, f"maximum {high:g}"))
    if "categories" in field.declared and field.categories is not None:
        known = frozenset(field.categories)
        rules.append(
            lambda array: _require(
                field,
                array,
                np.array(
                    [item is not None and item not in known for item in array.ravel().tolist()],
                    dtype=bool,
                ).reshape(array.shape),
                f"one of {_listed(field.categories or ())}",
            )
        )
    return tuple(rules)


def _require(field: Field, array: Array, broken: Array, rule: str) -> None:
    if broken.any():
        raise _invalid(field, array, broken, rule)


def _refuse_null(field: Field, nulls: Array) -> None:
    if nulls.any():
        raise _invalid(field, None, nulls, "not null")


def _invalid(field: Field, array: Array | None, broken: Array, rule: str) -> InvalidInput:
    """The error that names the first offending value: column, row, rule and value."""
    index = tuple(int(axis[0]) for axis in np.nonzero(broken))
    value = None if array is None else array[index]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, int) and value.bit_length() > _ANSWERED_BITS:
        value = str(value)
    column = field.name if len(index) < 2 else f"{field.name}[{', '.join(map(str, index[1:]))}]"
    row = index[0] if index else 0
    shown = "null" if value is None else repr(value)
    return InvalidInput(
        f"Column `{column}`, row {row}: {_cut(shown)} breaks the rule `{rule}`.",
        next_step="Rows count from 0.",
        column=column,
        row=row,
        rule=rule,
        value=value if not isinstance(value, str) else _cut(value),
    )


def _cut(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
