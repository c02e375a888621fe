"""A spool segment as tables: one of each shape of predictions, one of each endpoint's feedback."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from shipway.core.captures import Feedback, Role, Shape, columns_of
from shipway.core.signature import Field
from shipway.core.tensors import NUMPY_OF, Array, DataType, data_type_of
from shipway.core.versions import NAME
from shipway.wire.packed import Content, Packed, PackedBatch, Unreadable, packed_frames

_AT = pa.timestamp("us", tz="UTC")
_PART_BYTES = 1024 * 1024
"""Of a segment are Python's objects at once; a hundred bytes of it take a kilobyte."""

_FARTHEST_US = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000

FEEDBACK_SCHEMA = pa.schema(
    [
        ("_request_id", pa.string()),
        ("_row", pa.int32()),
        ("_key", pa.string()),
        ("_at", _AT),
        ("_id", pa.string()),
        ("label", pa.string()),
        ("score", pa.float64()),
        ("outcomes", pa.map_(pa.string(), pa.float64())),
        ("_principal", pa.string()),
        ("_arrived", _AT),
    ]
)
"""The columns of every file of feedback; older ones have no `_arrived`."""

SYSTEM_SCHEMA = pa.schema(
    [
        ("_request_id", pa.string()),
        ("_row", pa.int32()),
        ("_at", _AT),
        ("_version", pa.int32()),
        ("_role", pa.string()),
        ("_latency_ms", pa.float32()),
        ("_principal", pa.string()),
        ("_segment", pa.string()),
        ("_key", pa.string()),
    ]
)
"""The columns that every file of predictions begins with."""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one endpoint, in the order of `_at`: predictions of a shape, or feedback when it is None."""

    environment: str
    endpoint: str
    shape: Shape | None
    table: pa.Table


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment's bytes hold. After `good_bytes` they make no sense; `refused` frames before say nonsense."""

    rows: list[Rows]
    frames: int
    refused: int
    good_bytes: int


def rows_of(data: bytes, *, arrived_us: int = 0) -> Read:
    """The rows of a segment, up to where its bytes are torn, without frames that say nonsense.

    `_arrived` of its feedback are microseconds from `arrived_us` on, each message's later than the one before.
    Never raises for its bytes: one prediction's fate never decides another's.
    """
    groups = _Groups()
    feedback: dict[tuple[str, str], list[tuple[int, Feedback]]] = {}
    frames, refused, good, settled = 0, 0, 0, 0
    for end, found in packed_frames(data):
        good = end
        if isinstance(found, Unreadable):
            refused += 1
            continue
        try:
            if isinstance(found, PackedBatch):
                groups.add(found)
            elif found is not None:
                _require_sound(found)
                said = feedback.setdefault((found.environment, found.endpoint), [])
                said.append((arrived_us + frames, found))
        except ValueError:
            refused += 1
            continue
        frames += found is not None
        if end - settled >= _PART_BYTES:
            groups.settle()
            settled = end
    rows = [*groups.rows(), *(_feedback_rows(*place, said) for place, said in feedback.items())]
    return Read(rows=rows, frames=frames, refused=refused, good_bytes=good)


def in_order(table: pa.Table) -> pa.Table:
    """The rows in the order of `_at`; of those at the same moment, as they are."""
    at = table["_at"].to_numpy()
    return table if np.all(at[:-1] <= at[1:]) else table.sort_by("_at")


def schema_of(shape: Shape) -> pa.Schema:
    """The columns of a file of predictions."""
    base = int(shape.batchable)
    ins, outs = columns_of([f.name for f in shape.inputs], [f.name for f in shape.outputs])
    fields = [(ins[f.name], _type_of(f, base)) for f in shape.inputs]
    fields += [(outs[f.name], _type_of(f, base)) for f in shape.outputs]
    return pa.schema([*SYSTEM_SCHEMA, *(pa.field(*field) for field in fields)])


def _type_of(field: Field, base: int) -> pa.DataType:
    item = _ARROW_OF[field.dtype]
    return pa.list_(item) if len(field.shape) > base else item


_ARROW_OF: dict[DataType, pa.DataType] = {
    kind: pa.from_numpy_dtype(dtype) for kind, dtype in NUMPY_OF.items() if kind.is_numeric
} | {
    # DuckDB has no type for them.
    DataType.FP16: pa.float32(),
    DataType.STRING: pa.string(),
    DataType.BYTES: pa.binary(),
}


class _Groups:
    """The predictions of a segment, by what their arrays look like."""

    def __init__(self) -> None:
        self._forms: dict[tuple[object, ...], _Form] = {}
        self._groups: dict[tuple[object, ...], _Group] = {}
        self._tables: dict[str, tuple[Shape, list[pa.Table]]] = {}

    def add(self, one: PackedBatch) -> None:
        """Adds a prediction; one without rows adds nothing.

        Raises:
            ValueError: it is none that can be kept.
        """
        key = (id(one.shape), one.form)
        form = self._forms.get(key)
        if form is None:
            form = self._forms.setdefault(key, self._form(one))
        if not one.has_lengths(form.lengths) or sum(one.counts) != form.rows:
            raise ValueError("its arrays do not have the shapes that it says")
        if not all(0 <= facts[0] < _FARTHEST_US for facts in one.facts):
            raise ValueError("its time is none")
        if form.rows:
            form.group.add(one, form)

    def _form(self, one: PackedBatch) -> _Form:
        lengths, rows, sizes = one.lengths(), sum(one.counts), one.sizes()
        key = (id(one.shape), tuple([a and (a[0], len(a[1])) for a in one.arrays]))
        group = self._groups.get(key) or self._groups.setdefault(key, _Group(one))
        for size, array, is_list in zip(sizes, one.arrays, group.is_list, strict=True):
            whole = size == rows or (is_list and not (size % rows if rows else size))
            if array is not None and not whole:
                raise ValueError("an array has not as many rows as the others")
        widths = [size // rows if rows else 0 for size in sizes]
        return _Form(group=group, lengths=lengths, rows=rows, widths=widths)

    def settle(self) -> None:
        """Makes tables of what was added so far."""
        for group in self._groups.values():
            if group.counts:
                text = msgspec.json.encode(group.shape).decode()
                self._tables.setdefault(text, (group.shape, []))[1].append(group.table())
        self._forms, self._groups = {}, {}

    def rows(self) -> list[Rows]:
        """All of them; groups that have one shape in the end, together."""
        self.settle()
        return [_rows(shape, pa.concat_tables(parts)) for shape, parts in self._tables.values()]


def _rows(shape: Shape, table: pa.Table) -> Rows:
    return Rows(
        environment=shape.environment, endpoint=shape.endpoint, shape=shape, table=in_order(table)
    )


class _Form(NamedTuple):
    """What the arrays of many predictions look like, checked once: their group, lengths and rows.

    `widths` are how many items each has in a row.
    """

    group: _Group
    lengths: list[tuple[type, int] | None]
    rows: int
    widths: list[int]


class _Group:
    """Predictions of one shape whose arrays have the same types: their buffers are put end to end."""

    def __init__(self, first: PackedBatch) -> None:
        """Takes the types from the first, without adding it.

        Raises:
            ValueError: its environment, endpoint or version is none.
        """
        shape = first.shape
        self._declared = shape  # kept, so that its id is nobody else's
        fields = [*shape.inputs, *shape.outputs]
        _require_names(shape.environment, shape.endpoint, shape.model)
        if not 0 < shape.version < 2**31:
            raise ValueError("the version is none")
        self._base = int(shape.batchable)
        actual = [
            field if array is None else _as_it_is(field, array, self._base)
            for field, array in zip(fields, first.arrays, strict=True)
        ]
        count = len(shape.inputs)
        self.shape = msgspec.structs.replace(
            shape, inputs=tuple(actual[:count]), outputs=tuple(actual[count:])
        )
        self._fields = actual
        self.is_list = [len(field.shape) > self._base for field in actual]
        self._dtypes = [None if a is None else a[0] for a in first.arrays]
        self.counts: list[int] = []
        self._facts: list[tuple[Any, ...]] = []
        self._contents: list[list[Packed | None]] = []
        self._widths: list[list[int]] = []
        self._texts = [
            (place, bytes if actual[place].dtype is DataType.BYTES else str)
            for place, dtype in enumerate(self._dtypes)
            if dtype == "O"
        ]
        self._fixed_texts = [
            place
            for place, dtype in enumerate(self._dtypes)
            if dtype and np.dtype(dtype).kind in "SU"
        ]

    def add(self, one: PackedBatch, form: _Form) -> None:
        """Adds a prediction of that form.

        Raises:
            ValueError: a text is none.
        """
        for place, kind in self._texts:
            for item in one.arrays[place][2]:  # type: ignore[index]  # it is there in this form
                if item is not None and not isinstance(item, kind):
                    raise ValueError("a text is none")
        for place in self._fixed_texts:
            dtype, _, content = one.arrays[place]  # type: ignore[misc]  # it is there in this form
            _require_text(np.dtype(dtype), content)  # type: ignore[arg-type]  # bytes, as `dtype` says
        self.counts += one.counts
        self._facts += one.facts
        self._contents.append(one.arrays)
        self._widths += [form.widths] * len(one.counts)

    def table(self) -> pa.Table:
        """All rows, in the order in which they came."""
        schema = schema_of(self.shape)
        counts = np.array(self.counts)
        places = range(len(self._fields))
        fields = [self._column(place, int(counts.sum())) for place in places]
        columns = [*_system_columns(self._facts, counts, self.shape.version), *fields]
        return pa.Table.from_arrays(columns, schema=schema)

    def _column(self, place: int, rows: int) -> pa.Array:
        field, dtype = self._fields[place], self._dtypes[place]
        if dtype is None:
            return pa.nulls(rows, _type_of(field, self._base))
        contents = [arrays[place][2] for arrays in self._contents]  # type: ignore[index]  # all have it
        items = _items(contents, dtype, field.dtype)
        if not self.is_list[place]:
            return items
        widths = np.repeat([widths[place] for widths in self._widths], self.counts)
        offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, items)


def _items(contents: Sequence[Content], dtype: str, kind: DataType) -> pa.Array:
    if dtype == "O":
        return pa.array([item for part in contents for item in part], type=_ARROW_OF[kind])
    values = np.frombuffer(b"".join(contents), dtype=dtype)  # type: ignore[arg-type]  # bytes, as `dtype` says
    if values.dtype.kind in "SU":
        return pa.array(values.tolist(), type=_ARROW_OF[kind])
    wanted = np.dtype(np.float32) if kind is DataType.FP16 else NUMPY_OF[kind]
    return pa.array(values.astype(wanted, copy=False), from_pandas=True)


def _as_it_is(field: Field, array: Packed, base: int) -> Field:
    """The field, of the type that the array has: a redacted number may have become a text."""
    dtype, dimensions, content = array
    if dtype == "O":
        kind = field.dtype if not field.dtype.is_numeric else _kind_of_texts(content)
        shape = field.shape[:base] if len(dimensions) <= base else field.shape
        return msgspec.structs.replace(field, dtype=kind, shape=shape)
    kind = data_type_of(np.empty(0, dtype))
    fits = field.dtype.is_numeric and np.can_cast(
        NUMPY_OF[kind], NUMPY_OF[field.dtype], "same_kind"
    )
    return field if fits else msgspec.structs.replace(field, dtype=kind)


def _kind_of_texts(items: Content) -> DataType:
    first = next((item for item in items if item is not None), "")
    return DataType.BYTES if isinstance(first, bytes) else DataType.STRING


def _require_text(dtype: np.dtype[Any], content: bytes) -> None:
    """Refuses a text array of numpy's with items that are no Unicode.

    Raises:
        ValueError: there is one.
    """
    if dtype.kind == "S":
        for item in np.frombuffer(content, dtype).tolist():
            item.decode()
        return
    points = np.frombuffer(content, f"{dtype.str[0]}u4")
    if np.any((points > _LAST_POINT) | ((points >= _SURROGATES[0]) & (points <= _SURROGATES[1]))):
        raise ValueError("a text is none")


_LAST_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


def _require_names(*names: str) -> None:
    """Refuses names that could lead out of the log's place in the store, or that no column holds.

    Raises:
        ValueError: one is no name of an environment, endpoint or model.
    """
    for name in names:
        if NAME.fullmatch(name) is None or ".." in name:
            raise ValueError(f"`{name}` is no name")


def _system_columns(
    facts: Sequence[tuple[Any, ...]], counts: Array, version: int
) -> list[pa.Array]:
    at, ids, roles, latencies, principals, segments, keys = zip(*facts, strict=True)
    total = int(counts.sum())
    each = None if total == len(counts) else pa.array(np.repeat(np.arange(len(counts)), counts))

    def spread(values: pa.Array) -> pa.Array:
        return values if each is None else values.take(each)

    starts = np.repeat(np.cumsum(counts) - counts, counts)
    latency_ms = np.array(latencies, dtype=np.float64) / 1000
    return [
        spread(_texts(ids)),
        pa.array((np.arange(total) - starts).astype(np.int32)),
        spread(pa.array(np.array(at, dtype=np.int64)).cast(_AT)),
        pa.array(np.full(total, version, dtype=np.int32)),
        spread(_texts([_ROLES[role] for role in roles])),
        spread(pa.array(latency_ms.astype(np.float32))),
        spread(_texts(principals)),
        spread(_texts(segments)),
        spread(_texts(keys)),
    ]


_ROLES = {role: role.name.lower() for role in Role}


def _texts(values: Sequence[str]) -> pa.Array:
    """Texts, null for the empty ones."""
    return pa.array([value or None for value in values], type=pa.string())


def _require_sound(said: Feedback) -> None:
    _require_names(said.environment, said.endpoint)
    if not 0 <= said.at_us < _FARTHEST_US or not 0 <= (said.row or 0) < 2**31:
        raise ValueError("its time or its row is none")


def _feedback_rows(
    environment: str, endpoint: str, messages: Sequence[tuple[int, Feedback]]
) -> Rows:
    arrived, said = zip(*messages, strict=True)
    columns = [
        _texts([one.request_id for one in said]),
        pa.array([one.row for one in said], type=pa.int32()),
        _texts([one.key for one in said]),
        pa.array([one.at_us for one in said], type=pa.int64()).cast(_AT),
        _texts([one.id for one in said]),
        pa.array([one.label for one in said], type=pa.string()),
        pa.array([one.score for one in said], type=pa.float64(), from_pandas=True),
        pa.array([list(one.outcomes.items()) for one in said], type=FEEDBACK_SCHEMA.types[7]),
        _texts([one.principal for one in said]),
        pa.array(arrived, type=pa.int64()).cast(_AT),
    ]
    table = pa.Table.from_arrays(columns, schema=FEEDBACK_SCHEMA)
    return Rows(environment=environment, endpoint=endpoint, shape=None, table=in_order(table))
