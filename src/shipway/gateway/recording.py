"""From an answer to the prediction log: what is kept of it, for an endpoint with `capture`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter, time_ns

from shipway.core.assignment import is_moved, place_of, row_key
from shipway.core.captures import Role, Shape
from shipway.core.capturing import Capture, Durability, Reading, kept_shape
from shipway.core.inference import InferenceRequest
from shipway.core.redaction import Redaction
from shipway.core.strategies import Source
from shipway.core.tensors import Array
from shipway.gateway.counters import Row
from shipway.gateway.request_ids import RequestIds, header_of, own_id
from shipway.gateway.spool import Spool, unrecorded
from shipway.wire.callers import READERS, Sent
from shipway.wire.codec import Headers
from shipway.wire.spool import Told, encode_prediction, packed, shape_payload

LONGEST_TEXT = 200
"""Of a key or a segment, so many characters are kept."""

_ENTRY_BYTES = 512
_OBJECT_BYTES = 64
"""About what an entry keeps in memory beside its arrays, and an object in one of these."""

Arrays = Mapping[str, Array]
Entry = tuple[Told, Arrays, Arrays]


class Recorder:
    """Records the predictions of one version behind an endpoint. A `spool_writer.Source`.

    Made when a snapshot is swapped in, so that a request pays look-ups only. `is_synced`: answers wait
    until they are recorded.
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
        self._redaction = redaction
        self._inputs = [field.name for field in self.shape.inputs]
        self._outputs = [field.name for field in self.shape.outputs]
        self._key_of = reader(capture.key, redaction)
        self._segment_of = reader(capture.segment, redaction)

    def begin(self, sent: Sent, asked: InferenceRequest, inputs: Arrays, who: str) -> Record:
        """The record of a request that was read; `who` is its caller's name."""
        return Record(
            self,
            inputs,
            request_id=own_id(asked.id, sent.headers) or _ids.made(),
            principal=who,
            segment=self._segment_of(sent, inputs),
            key=self._key_of(sent, inputs),
            size_bytes=sent.size_bytes,
        )

    def keeps(self, request_id: str) -> bool:
        """Whether the prediction of that id is kept; the same in every gateway."""
        share_pct = self.capture.share_pct
        return share_pct >= 100 or is_moved(place_of(self.shape.endpoint, request_id), share_pct)

    def opening(self, number: int) -> bytes:
        """See `spool_writer.Source`."""
        return shape_payload(number, self.shape)

    def payload(self, number: int, entry: Entry) -> bytes:
        """See `spool_writer.Source`. Nothing that is redacted or not kept is in it."""
        told, inputs, outputs = entry
        if self._redaction.is_on:
            inputs = self._redaction.arrays(_only(self._inputs, inputs))
            outputs = self._redaction.arrays(_only(self._outputs, outputs))
        return encode_prediction(
            number, told, packed(self._inputs, inputs), packed(self._outputs, outputs)
        )


class Record:
    """One request on its way into the prediction log. Its arrays may not change any more."""

    __slots__ = (
        "_inputs",
        "_key",
        "_principal",
        "_recorder",
        "_segment",
        "_size_bytes",
        "request_id",
    )

    def __init__(  # noqa: PLR0913 - what is known of a request
        self,
        recorder: Recorder,
        inputs: Arrays,
        *,
        request_id: str,
        principal: str,
        segment: str,
        key: str,
        size_bytes: int,
    ) -> None:
        self._recorder = recorder
        self._inputs = inputs
        self.request_id = request_id
        self._principal = principal
        self._segment = segment
        self._key = key
        self._size_bytes = size_bytes

    @property
    def marks(self) -> Headers:
        """The header or trailer that tells the caller the id."""
        return header_of(self.request_id)

    @property
    def is_synced(self) -> bool:
        """Whether the answer waits until it is recorded."""
        return self._recorder.is_synced

    def by(self, recorder: Recorder, inputs: Arrays) -> Record:
        """The record of the same request where another version answers it."""
        return Record(
            recorder,
            inputs,
            request_id=self.request_id,
            principal=self._principal,
            segment=self._segment,
            key=self._key,
            size_bytes=self._size_bytes,
        )

    def keep(self, outputs: Arrays, role: Role, started: float) -> asyncio.Future[None] | None:
        """Records the answer to a request that was read at `started`, by `perf_counter`. With `is_synced`, the future of that, else None: nobody waits."""
        entry = self._entry(outputs, role, started)
        recorder = self._recorder
        if entry is None:
            return None
        size_bytes = self._size_bytes + _size_of(outputs)
        if recorder.is_synced:
            return recorder.spool.commit(recorder, entry, size_bytes)
        recorder.spool.offer(recorder, entry, size_bytes)
        return None

    def keep_copy(self, outputs: Arrays, started: float) -> None:
        """Records what a shadow answered, which nobody waits for."""
        entry = self._entry(outputs, Role.SHADOW, started)
        if entry is not None:
            size_bytes = self._size_bytes + _size_of(outputs)
            self._recorder.spool.offer(self._recorder, entry, size_bytes)

    def _entry(self, outputs: Arrays, role: Role, started: float) -> Entry | None:
        if not self._recorder.keeps(self.request_id):
            return None
        told = (
            time_ns() // 1000,
            self.request_id,
            int(role),
            int((perf_counter() - started) * 1e6),
            self._principal,
            self._segment,
            self._key,
        )
        return told, self._inputs, outputs


_ids = RequestIds()


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


def reader(reading: Reading | None, redaction: Redaction) -> Callable[[Sent, Arrays], str]:
    """What reads a key or a segment from a request; the text is empty where it has none.

    An input that has a rule is read through it. An API key becomes a keyed hash.
    """
    if reading is None:
        return lambda sent, inputs: ""
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
    return lambda sent, inputs: (read(sent, inputs) or "")[:LONGEST_TEXT]


def _only(names: list[str], arrays: Arrays) -> dict[str, Array]:
    return {name: arrays[name] for name in names if name in arrays}


def _size_of(outputs: Arrays) -> int:
    size = _ENTRY_BYTES
    for array in outputs.values():
        size += array.size * _OBJECT_BYTES if array.dtype.hasobject else array.nbytes
    return size
