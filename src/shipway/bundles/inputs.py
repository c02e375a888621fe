"""The inputs of a model: what its format says about them, completed by a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from shipway.bundles.formats.port import OpenArtifact, Sample
from shipway.bundles.samples import MATRIX
from shipway.core.bundles import Format
from shipway.core.errors import InvalidRequest
from shipway.core.signature import Field, Layout
from shipway.core.tensors import Array, DataType, data_type_of

MAX_CATEGORIES = 50
_OF_MATRICES = frozenset(
    {Format.SKLEARN, Format.XGBOOST, Format.LIGHTGBM, Format.TORCHSCRIPT, Format.TORCH_EXPORT}
)

_NO_SAMPLE = ("No sample was given: ranges and categories are unknown.",)
_ALL_FP64 = "No sample was given: every column is taken to be FP64, and its range is unknown."
_WHY_FP64 = "Input `X` is FP64: the sample holds whole numbers that FP32 cannot tell apart."
_REFUSES_FP32 = "The inputs are FP64: the model does not answer FP32."


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """The inferred inputs, the sample arranged like them, and what there is to say about it.

    `fields` is empty when neither the format nor a sample tells what the model takes.
    """

    layout: Layout
    fields: tuple[Field, ...]
    sample: Sample | None
    notes: tuple[str, ...] = ()


def infer_inputs(artifact: OpenArtifact, sample: Sample | None) -> Inputs:
    """What the model takes: its format's own signature, else its features, else the sample's.

    Columns of the sample that the model does not know are left out.

    Raises:
        InvalidRequest: the sample lacks an input of the model, or has another width.
    """
    own = artifact.signature
    if own is not None and own.layout is Layout.TENSORS:
        return _tensors(own.inputs, sample)
    names = own.input_names() if own is not None else artifact.feature_names
    if names is not None:
        fields = own.inputs if own is not None else None
        return _columns(names, fields, sample)
    if artifact.format in _OF_MATRICES and not _is_text_alone(artifact, sample):
        return _matrix(artifact.feature_count, sample)
    return _as_sampled(sample)


def _is_text_alone(artifact: OpenArtifact, sample: Sample | None) -> bool:
    """Whether it takes texts rather than a matrix: it counts no features, and gets one text column."""
    if sample is None or artifact.feature_count is not None or len(sample.inputs) != 1:
        return False
    (array,) = sample.inputs.values()
    return array.ndim == 1 and data_type_of(array) is DataType.STRING


def in_fp64(inputs: Inputs) -> Inputs:
    """The same with FP64 for FP32, for a model that refuses FP32."""
    fields = tuple(
        msgspec.structs.replace(field, dtype=DataType.FP64)
        if field.dtype is DataType.FP32
        else field
        for field in inputs.fields
    )
    return msgspec.structs.replace(inputs, fields=fields, notes=(*inputs.notes, _REFUSES_FP32))


def _columns(
    names: Sequence[str], fields: tuple[Field, ...] | None, sample: Sample | None
) -> Inputs:
    if sample is None:
        known = fields or tuple(Field(name=name, dtype=DataType.FP64) for name in names)
        notes = _NO_SAMPLE if fields is not None else (_ALL_FP64,)
        return Inputs(layout=Layout.COLUMNS, fields=known, sample=None, notes=notes)
    names = names if fields is not None else _as_spelled(names, sample)
    columns = _named_columns(sample, names)
    arranged = msgspec.structs.replace(
        sample, inputs={name: columns[name] for name in names}, is_table=True
    )
    known = fields or tuple(
        Field(name=name, dtype=data_type_of(array)) for name, array in arranged.inputs.items()
    )
    unused = [name for name in columns if name not in names]
    return Inputs(
        layout=Layout.COLUMNS,
        fields=_seen(known, arranged.inputs),
        sample=arranged,
        notes=_unused(unused),
    )


def _unused(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    listed = ", ".join(f"`{name}`" for name in names)
    return (f"Columns of the sample that the model does not take were left out: {listed}.",)


def _as_spelled(names: Sequence[str], sample: Sample) -> Sequence[str]:
    """The names as the sample spells them: LightGBM writes `_` for each space."""
    if not sample.is_table or all(name in sample.inputs for name in names):
        return names
    spelled = {name.replace(" ", "_"): name for name in sample.inputs}
    return [spelled.get(name, name) for name in names]


def _named_columns(sample: Sample, names: Sequence[str]) -> Mapping[str, Array]:
    if not sample.is_table:
        matrix = next(iter(sample.inputs.values()))
        if len(sample.inputs) > 1 or matrix.ndim != 2 or matrix.shape[1] != len(names):
            raise _wrong_width(len(names), sample)
        return {name: matrix[:, position] for position, name in enumerate(names)}
    missing = next((name for name in names if name not in sample.inputs), None)
    if missing is not None:
        raise InvalidRequest(
            f"The sample has no column `{missing}`, which the model takes.",
            next_step=f"Its columns are: {', '.join(f'`{name}`' for name in sample.inputs)}.",
            column=missing,
        )
    return sample.inputs


def _wrong_width(width: int, sample: Sample) -> InvalidRequest:
    if sample.is_table:
        names = ", ".join(f"`{name}`" for name in [*sample.inputs][-5:])
        has = f"{len(sample.inputs)} columns, the last of them {names}"
    else:
        has = ", ".join(f"`{name}` {list(array.shape)}" for name, array in sample.inputs.items())
    return InvalidRequest(
        f"The model takes {width} features, and the sample has {has}.",
        next_step="Drop columns that are no inputs, such as the target.",
        width=width,
    )


def _tensors(fields: tuple[Field, ...], sample: Sample | None) -> Inputs:
    if sample is None:
        return Inputs(layout=Layout.TENSORS, fields=fields, sample=None, notes=_NO_SAMPLE)
    arrays: Mapping[str, Array] = sample.inputs
    if len(fields) == 1 and fields[0].name not in arrays:
        arrays = {fields[0].name: _stacked(sample)}
    missing = next((field.name for field in fields if field.name not in arrays), None)
    if missing is not None:
        raise InvalidRequest(
            f"The sample has no input `{missing}`, which the model takes.",
            next_step=f"Its inputs are: {', '.join(f'`{name}`' for name in arrays)}.",
            column=missing,
        )
    arranged = {field.name: _fitted(field, arrays[field.name], sample) for field in fields}
    return Inputs(
        layout=Layout.TENSORS,
        fields=_seen(fields, arranged),
        sample=msgspec.structs.replace(sample, inputs=arranged, is_table=False),
        notes=_unused([name for name in sample.inputs if name not in arranged and sample.is_table])
        if len(fields) > 1
        else (),
    )


def _fitted(field: Field, array: Array, sample: Sample) -> Array:
    """The array with the field's number of dimensions, cut to a fixed number of rows."""
    if array.ndim == 1 and len(field.shape) == 2:
        array = array.reshape(-1, 1)
    if len(field.shape) == 2 and array.ndim == 2 and field.shape[1] not in (-1, array.shape[1]):
        raise _wrong_width(field.shape[1], sample)
    return array[: field.shape[0]] if field.shape and field.shape[0] > 0 else array


def _stacked(sample: Sample) -> Array:
    arrays = list(sample.inputs.values())
    if not sample.is_table and len(arrays) == 1:
        return arrays[0]
    texts = [not data_type_of(array).is_numeric for array in arrays]
    if any(array.ndim != 1 for array in arrays) or (any(texts) and not all(texts)):
        listed = ", ".join(f"`{name}`" for name in sample.inputs)
        raise InvalidRequest(
            "The model takes one matrix, and the sample's columns cannot be stacked into one:"
            f" {listed}.",
            next_step="Give columns that are all numbers, and drop the target.",
        )
    return np.column_stack(arrays)


def _matrix(width: int | None, sample: Sample | None) -> Inputs:
    if sample is None:
        known = () if width is None else (_matrix_field(width, DataType.FP32),)
        return Inputs(layout=Layout.TENSORS, fields=known, sample=None, notes=_NO_SAMPLE)
    if not sample.is_table and len(sample.inputs) > 1:
        return _as_sampled(sample)
    matrix = _stacked(sample)
    if matrix.ndim == 2 and width not in (None, matrix.shape[1]):
        raise _wrong_width(width or 0, sample)
    dtype = _matrix_type(matrix)
    if dtype.is_float:
        matrix = matrix.astype(np.float64)
    field = Field(name=MATRIX, dtype=dtype, shape=(-1, *matrix.shape[1:]))
    arranged = {MATRIX: matrix}
    return Inputs(
        layout=Layout.TENSORS,
        fields=_seen((field,), arranged),
        sample=msgspec.structs.replace(sample, inputs=arranged, is_table=False),
        notes=(_WHY_FP64,) if dtype is DataType.FP64 else (),
    )


def _matrix_field(width: int, dtype: DataType) -> Field:
    return Field(name=MATRIX, dtype=dtype, shape=(-1, width))


def _matrix_type(matrix: Array) -> DataType:
    kind = data_type_of(matrix)
    if not kind.is_numeric:
        return kind
    wide = matrix.astype(np.float64)
    large = np.abs(wide[np.isfinite(wide)])
    whole = large[(large > 2**24) & (large == np.floor(large))]
    exact = whole.size == 0 or bool((whole.astype(np.float32) == whole).all())
    return DataType.FP32 if exact else DataType.FP64


def _as_sampled(sample: Sample | None) -> Inputs:
    if sample is None:
        return Inputs(layout=Layout.COLUMNS, fields=(), sample=None)
    fields = tuple(
        Field(name=name, dtype=data_type_of(array), shape=(-1, *array.shape[1:]))
        for name, array in sample.inputs.items()
    )
    layout = Layout.COLUMNS if sample.is_table else Layout.TENSORS
    return Inputs(layout=layout, fields=_seen(fields, sample.inputs), sample=sample)


def _seen(fields: tuple[Field, ...], arrays: Mapping[str, Array]) -> tuple[Field, ...]:
    return tuple(with_seen(field, arrays[field.name]) for field in fields)


def with_seen(field: Field, array: Array) -> Field:
    """The field with nulls, range and categories as they are in these values."""
    kind = data_type_of(array)
    if not kind.is_numeric:
        seen = set(array.ravel().tolist())
        texts = tuple(sorted(seen - {None})) if kind is DataType.STRING else ()
        return msgspec.structs.replace(
            field,
            nullable=field.nullable or None in seen,
            categories=texts if 0 < len(texts) <= MAX_CATEGORIES else field.categories,
        )
    has_null = kind.is_float and bool(np.isnan(array).any())
    finite = array[np.isfinite(array)]
    if kind is DataType.BOOL or finite.size == 0:
        return msgspec.structs.replace(field, nullable=field.nullable or has_null)
    return msgspec.structs.replace(
        field,
        nullable=field.nullable or has_null,
        minimum=float(finite.min()),
        maximum=float(finite.max()),
    )
