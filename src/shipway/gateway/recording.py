"""From an answer to the prediction log: what is kept of it, for an endpoint with `capture`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from math import prod
from time import perf_counter, time_ns
from types import NoneType
from typing import Any

import numpy as np

from shipway.core.assignment import is_moved, place_of, row_key
from shipway.core.captures import Role, Shape
from shipway.core.capturing import Capture, Durability, Reading, kept_shape
from shipway.core.inference import InferenceRequest
from shipway.core.redaction import Redaction
from shipway.core.signature import Field
from shipway.core.strategies import Source
from shipway.core.tensors import NUMPY_OF, Array, DataType, data_type_of
from shipway.gateway.counters import Row
from shipway.gateway.request_ids import made_ids
from shipway.gateway.spool import Spool, unrecorded
from shipway.wire.callers import READERS, Sent
from shipway.wire.codec import Headers
from shipway.wire.request_ids import HEADER, header_of, own_id
from shipway.wire.spool import (
    Batch,
    Told,
    batch_payload,
    encode_prediction,
    joined,
    packed,
    shape_payload,
)

LONGEST_TEXT = 200
"""Of a key or a segment, so many characters are kept."""

_ENTRY_BYTES = 512
_ARRAY_BYTES = 128
_OBJECT_BYTES = 64
"""About what an entry keeps in memory, and an array beside its items, and an object beside its text."""

Arrays = Mapping[str, Array]
Read = Callable[[Sent, Arrays], str]
Entry = tuple[Told, Arrays, Arrays]


class Recorder:
    """Records the predictions of one version behind an endpoint. A `spool_writer.Source`.

    Made when a snapshot is swapped in, so that a request pays look-ups only. `is_synced`: answers wait
    until they are recorded. `segment_of` and `key_of` read these from a request, None where there is none
    to read.
    """

    def __init__(
        self, capture: Capture, shape: Shape, *, spool: Spool, redaction: Redaction, row: Row
    ) -> None:
        """`shape` is that of whole predictions."""
        self.capture = capture
        self.shape = kept_shape(capture, shape)
        self.spool = spool
        self.row = row
        self.is_synced = capture.durability is Durability.SYNCED
        self.is_whole = capture.share_pct >= 100
        self.segment_of = reader(capture.segment, redaction)
        self.key_of = reader(capture.key, redaction)
        self.is_slow = redaction.is_on
        self.key_as_kept = key_as_kept(capture.key, shape, redaction)
        self._number = next(_numbers)
        self._redaction = redaction
        self._entry_bytes = _ENTRY_BYTES + _ARRAY_BYTES * len(shape.inputs + shape.outputs)
        self._row_bytes, self._counted = (
            _row_bytes(shape),
            shape.outputs[0].name if shape.outputs else "",
        )
        self._inputs = [field.name for field in self.shape.inputs]
        self._outputs = [field.name for field in self.shape.outputs]

    def begin(self, sent: Sent, asked: InferenceRequest, inputs: Arrays, who: str) -> Record:
        """The record of a request that was read; `who` is its caller's name."""
        if asked.id or HEADER in sent.headers:
            own = own_id(asked.id, sent.headers)
            if own:
                return Record(self, sent, inputs, who, own, header_of(own))
        made = next(_ids)
        return Record(self, sent, inputs, who, made, ((HEADER, made.encode()),))

    def keeps(self, request_id: str) -> bool:
        """Whether the prediction of that id is among those that are kept; the same in every gateway."""
        return self.is_whole or is_moved(
            place_of(self.shape.endpoint, request_id), self.capture.share_pct
        )

    def size_of(self, sent: Sent, inputs: Arrays, outputs: Arrays) -> int:
        """About how many bytes an entry with these keeps in memory."""
        rows = outputs.get(self._counted)
        if self._row_bytes and rows is not None:
            return self._entry_bytes + int(self._row_bytes * rows.size)
        size = self._entry_bytes + max(sent.size_bytes, sum([a.nbytes for a in inputs.values()]))
        return size + sum([_size(array) for array in outputs.values()])

    def opening(self) -> bytes:
        """See `spool_writer.Source`."""
        return shape_payload(self._number, self.shape)

    def payload(self, entry: Entry) -> bytes:
        """See `spool_writer.Source`. Nothing that is redacted or not kept is in it."""
        told, inputs, outputs = self._redacted(entry)
        rows = _rows(self.shape, inputs, outputs)
        return encode_prediction(
            self._number,
            told,
            _kept(self.shape.inputs, inputs, rows),
            _kept(self.shape.outputs, outputs, rows),
        )

    def batch(self, entries: Sequence[Entry]) -> bytes | None:
        """See `spool_writer.Source`. Of a table's rows, not of tensors without rows."""
        if not self.shape.batchable:
            return None
        if self._redaction.is_on:
            entries = [self._redacted(entry) for entry in entries]
        told, inputs, outputs = zip(*entries, strict=True)
        side, names = (outputs, self._outputs) if self._outputs else (inputs, self._inputs)
        try:
            rows = [len(arrays[names[0]]) for arrays in side]
            together = [
                _kept(
                    fields,
                    {f.name: joined([arrays[f.name] for arrays in each], rows) for f in fields},
                    sum(rows),
                )
                for fields, each in ((self.shape.inputs, inputs), (self.shape.outputs, outputs))
            ]
        except (LookupError, StopIteration, TypeError, ValueError):
            return None  # other dtypes or numbers of rows than each other's
        return batch_payload(self._number, Batch(rows, list(zip(*told, strict=True)), *together))

    def _redacted(self, entry: Entry) -> Entry:
        if not self._redaction.is_on:
            return entry
        told, inputs, outputs = entry
        return (
            told,
            self._redaction.arrays(_only(self._inputs, inputs)),
            self._redaction.arrays(_only(self._outputs, outputs)),
        )


class Record:
    """One request on its way into the prediction log. Its arrays may not change any more.

    `marks` are the header or trailer that tells the caller its id.
    """

    __slots__ = ("_inputs", "_recorder", "_request_id", "_sent", "_who", "marks")

    def __init__(
        self,
        recorder: Recorder,
        sent: Sent,
        inputs: Arrays,
        who: str,
        request_id: str,
        marks: Headers,
    ) -> None:
        self._recorder = recorder
        self._sent = sent
        self._inputs = inputs
        self._who = who
        self._request_id = request_id
        self.marks = marks

    def by(self, recorder: Recorder, inputs: Arrays) -> Record:
        """The record of the same request where another version answers it."""
        return Record(recorder, self._sent, inputs, self._who, self._request_id, self.marks)

    def keep(self, outputs: Arrays, role: Role, started: float) -> asyncio.Future[None] | None:
        """Records the answer to a request that was read at `started`, by `perf_counter`.

        Gives what the answer waits for; None where it waits for nothing: nobody waits for a copy.
        """
        recorder, sent, inputs = self._recorder, self._sent, self._inputs
        if not (recorder.is_whole or recorder.keeps(self._request_id)):
            return None
        told = (
            time_ns() // 1000,
            self._request_id,
            role,
            int((perf_counter() - started) * 1e6),
            self._who,
            "" if recorder.segment_of is None else recorder.segment_of(sent, inputs),
            "" if recorder.key_of is None else recorder.key_of(sent, inputs),
        )
        size = recorder.size_of(sent, inputs, outputs)
        if recorder.is_synced and role is not Role.SHADOW:
            return recorder.spool.commit(recorder, (told, inputs, outputs), size)
        recorder.spool.offer(recorder, (told, inputs, outputs), size)
        return None


_ids = made_ids()
_numbers = count()


async def recorded(kept: asyncio.Future[None], *, within_s: float) -> None:
    """Returns when it is recorded.

    Raises:
        PredictionUnrecorded: it cannot be, or was not in time.
    """
    try:
        async with asyncio.timeout(within_s):
            await kept
    except TimeoutError:
        raise unrecorded("the disk did not take it before the deadline") from None


def reader(reading: Reading | None, redaction: Redaction) -> Read | None:
    """What reads a key or a segment from a request, a text that is empty where it has none.

    An input that has a rule is read through it. An API key becomes a keyed hash.
    """
    if reading is None:
        return None
    name = reading.name

    def of_input(sent: Sent, inputs: Arrays) -> str | None:
        del sent
        array = inputs.get(name)
        if array is None:
            return None
        return row_key(redaction.arrays({name: array[:1] if array.ndim else array}).get(name))

    def of_api_key(sent: Sent, inputs: Arrays) -> str | None:
        del inputs
        return redaction.token(READERS[Source.KEY](sent, name))

    def elsewhere(sent: Sent, inputs: Arrays) -> str | None:
        del inputs
        return READERS[reading.by](sent, name)

    read = {Source.INPUT: of_input, Source.KEY: of_api_key}.get(reading.by, elsewhere)

    def text_of(sent: Sent, inputs: Arrays) -> str:
        try:
            return (read(sent, inputs) or "")[:LONGEST_TEXT]
        except Exception:  # noqa: BLE001 - what cannot be read names nobody; the answer is made already
            return ""

    return text_of


def key_as_kept(
    reading: Reading | None, shape: Shape, redaction: Redaction
) -> Callable[[str], str]:
    """What makes of a business key, as somebody says it later, the text that the log has for it."""
    if reading is not None and reading.by is Source.KEY:
        return lambda text: redaction.token(text) or ""
    fields = {field.name: field.dtype for field in shape.inputs}
    if reading is None or reading.by is not Source.INPUT or reading.name not in fields:
        return lambda text: text[:LONGEST_TEXT]
    name, dtype = reading.name, fields[reading.name]

    def kept(text: str) -> str:
        try:
            # A row of one value may be said as one: `[42]`.
            said = text.strip("[]") if dtype.is_numeric else text
            value = np.array([said], dtype=object)
            array = value.astype(NUMPY_OF[dtype]) if dtype.is_numeric else value
        except (OverflowError, ValueError):
            return text[:LONGEST_TEXT]  # of a row of several values, or no key of this endpoint
        return (row_key(redaction.arrays({name: array}).get(name)) or "")[:LONGEST_TEXT]

    return kept


def _row_bytes(shape: Shape) -> float:
    """How many bytes arrays hold for each item of the first output; 0 where that is not always the same."""
    fields = (*shape.inputs, *shape.outputs)
    sizes = [prod(field.shape[1:]) for field in fields]
    is_regular = all(field.dtype.is_numeric and -1 not in field.shape[1:] for field in fields)
    if not (shape.batchable and shape.outputs and is_regular and all(sizes)):
        return 0
    row = sum(
        size * NUMPY_OF[field.dtype].itemsize for field, size in zip(fields, sizes, strict=True)
    )
    return row / sizes[len(shape.inputs)]


def _size(array: Array) -> int:
    """About what an array keeps in memory, its texts included."""
    if not array.dtype.hasobject:
        return array.nbytes
    texts = [len(item) for item in array.flat if isinstance(item, str | bytes)]
    return array.size * _OBJECT_BYTES + sum(texts)


def _rows(shape: Shape, *sides: Arrays) -> int | None:
    """How many rows each kept array has; None of a prediction without rows."""
    if not shape.batchable:
        return None
    fields = zip((shape.inputs, shape.outputs), sides, strict=True)
    found = (side[f.name] for of, side in fields for f in of if f.name in side)
    return next((len(array) for array in found if array.ndim), 1)


def _kept(fields: Sequence[Field], arrays: Arrays, rows: int | None) -> list[Any]:
    """The arrays as a frame has them.

    Raises:
        TypeError, ValueError: control could not make them columns of a table.
    """
    found = packed([field.name for field in fields], arrays)
    for place, field in enumerate(fields):
        if found[place] is not None:
            _require_column(field, arrays[field.name], rows)
            dtype, shape, items = found[place]
            if dtype == "O":
                found[place] = dtype, shape, _texts(items, field.dtype)
    return found


def _require_column(field: Field, array: Array, rows: int | None) -> None:
    data_type_of(array)
    is_list = len(field.shape) > (rows is not None)
    length = len(array) if array.ndim else 1
    if rows is not None and length != rows:
        raise ValueError(f"`{field.name}` has {length} rows, others have {rows}")
    if not is_list and array.size != (1 if rows is None else rows):
        raise ValueError(f"`{field.name}` has {array.size} items for {rows or 1} rows")


def _texts(items: list[Any], dtype: DataType) -> list[Any]:
    """Texts, or bytes where they are declared; None for null."""
    kind = bytes if dtype is DataType.BYTES else str
    if set(map(type, items)) <= {kind, NoneType}:
        return items
    texts = [None if item is None or item != item else item for item in items]  # NaN
    if kind is bytes:
        texts = [item.encode() if isinstance(item, str) else item for item in texts]
    if not all(item is None or isinstance(item, kind) for item in texts):
        raise ValueError("a text is none")
    return texts


def _only(names: list[str], arrays: Arrays) -> dict[str, Array]:
    return {name: arrays[name] for name in names if name in arrays}
