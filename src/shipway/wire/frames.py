"""The binary stream between gateway and replica: length-prefixed frames, many requests at once.

Frame, little-endian: u32 length of the rest, u8 kind, u32 stream id, body. Streams are numbered by
the gateway; an answer carries its request's number. Bodies:

- INFER, RESULT: u32 length of a msgpack `TensorHeader`, the header, zero padding to a multiple of 8
  counted from the start of the body, then each tensor's bytes, each padded to a multiple of 8.
  Numeric tensors are raw row-major little-endian; STRING and BYTES tensors are a msgpack array.
  A RESULT ends in 24 bytes of times, which gateways of earlier versions pass over: u32 microseconds
  in the queue, u32 microseconds in model calls, u32 rows of the call, u32 calls that it reports, u64
  rows of those; see `core.telemetry.Times`. A replica of earlier versions sends none.
- FAIL: msgpack `Failure`. PONG: msgpack `Pong`. PING, CANCEL: empty.

Nothing here does I/O; `wire.link` moves the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, TypeVar

import msgspec
import numpy as np

from shipway.core.errors import InvalidRequest, ShipwayError, error_of
from shipway.core.telemetry import Times
from shipway.core.tensors import NUMPY_OF, Array, DataType, data_type_of

MAX_FRAME_BYTES = 1 << 30
"""A longer frame is a broken peer; the connection is closed."""

_HEAD = struct.Struct("<IBI")
_U32 = struct.Struct("<I")
_TIMES = struct.Struct("<IIIIQ")
_MOST_U32 = 2**32 - 1
_MOST_ROWS = 2**40
TIMES_BYTES = _TIMES.size
_HEAD_REST = _HEAD.size - _U32.size


class Kind(IntEnum):
    """What a frame carries."""

    INFER = 1
    RESULT = 2
    FAIL = 3
    CANCEL = 4
    PING = 5
    PONG = 6


class Pong(msgspec.Struct, frozen=True):
    """A replica's answer to PING.

    `busy_s`: how long the present model call has run, 0 when idle. `queued`: requests that wait for
    the model. `call_rows`, `call_s`: rows and seconds of a model call of late; `saved_s`: what each
    request that joins a call saves by it, 0 until known.
    """

    id: str
    ready: bool
    busy_s: float
    queued: int = 0
    call_rows: float = 0.0
    call_s: float = 0.0
    saved_s: float = 0.0


class Failure(msgspec.Struct, frozen=True):
    """An error of `core.errors`, by its code; the model's own with its times."""

    code: str
    message: str
    next_step: str = ""
    details: dict[str, Any] = {}
    times: Times | None = None

    @classmethod
    def of(cls, error: ShipwayError, times: Times | None = None) -> Failure:
        """The failure that carries this error."""
        return cls(error.code, error.message, error.next_step, error.details, times)

    def error(self) -> ShipwayError:
        """The error that it carries."""
        error = error_of(self.code)(self.message, next_step=self.next_step)
        error.details = self.details  # not as arguments: a replica may name them as it likes
        return error


class TensorHeader(msgspec.Struct, array_like=True):
    """What precedes the tensors: (name, data type, shape, bytes) of each, in order.

    `timeout_ms`: how much of the caller's deadline is left, 0 for none. `trace`: the trace that the
    request belongs to, for the replica's log; empty for none. A peer of an earlier version passes
    over what it does not know.
    """

    tensors: list[tuple[str, str, tuple[int, ...], int]]
    timeout_ms: int = 0
    trace: str = ""


class Frame(msgspec.Struct, frozen=True):
    """One received frame; `body` is writable memory of its own."""

    kind: Kind
    stream: int
    body: memoryview


_DAMAGE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
T = TypeVar("T")

_FIRST_BYTES = 1024 * 1024
"""Memory that a frame has before anything of it has come; it grows by what comes, not by what its sender says."""

_KINDS = {kind.value: kind for kind in Kind}
_NUMERIC = {kind.value: dtype for kind, dtype in NUMPY_OF.items() if kind.is_numeric}
_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(TensorHeader)
_any_decoder = msgspec.msgpack.Decoder(list[Any])
_failure_decoder = msgspec.msgpack.Decoder(Failure)
_pong_decoder = msgspec.msgpack.Decoder(Pong)


def encode_plain(kind: Kind, stream: int, payload: Any = None) -> bytes:
    """A frame without tensors; `payload` is a msgspec value, None for an empty body."""
    body = b"" if payload is None else _encoder.encode(payload)
    return _HEAD.pack(_HEAD_REST + len(body), kind, stream) + body


def encode_tensors(
    kind: Kind,
    stream: int,
    tensors: Mapping[str, Array],
    *,
    timeout_ms: int = 0,
    trace: str = "",
    times: bytes = b"",
) -> list[bytes | memoryview]:
    """An INFER or RESULT frame as buffers to write one after the other; `times` are encoded ones.

    C-contiguous arrays are not copied.
    """
    body = encode_body(tensors, timeout_ms=timeout_ms, trace=trace)
    if times:
        body.append(times)
    return [head_of(kind, stream, sum(map(len, body))), *body]


def head_of(kind: Kind, stream: int, size: int) -> bytes:
    """What precedes a body of that many bytes."""
    return _HEAD.pack(_HEAD_REST + size, kind, stream)


def encode_body(
    tensors: Mapping[str, Array], *, timeout_ms: int = 0, trace: str = ""
) -> list[bytes | memoryview]:
    """The body of an INFER or RESULT frame, as buffers; see `encode_tensors`."""
    entries: list[tuple[str, str, tuple[int, ...], int]] = []
    buffers: list[bytes | memoryview] = []
    for name, array in tensors.items():
        dtype = data_type_of(array)
        data = raw_bytes(array, dtype) if dtype.is_numeric else _encoder.encode(_items(array))
        entries.append((name, dtype.value, array.shape, len(data)))
        buffers.append(data)
        if pad := -len(data) % 8:
            buffers.append(bytes(pad))
    return [encode_header(entries, timeout_ms, trace), *buffers]


def raw_bytes(array: Array, dtype: DataType) -> memoryview:
    """A numeric array's bytes, as they travel; a C-contiguous one is not copied."""
    # The stream is little-endian, whatever order the array was made in.
    return np.ascontiguousarray(array, NUMPY_OF[dtype]).reshape(-1).view(np.uint8).data


def encode_header(
    entries: list[tuple[str, str, tuple[int, ...], int]], timeout_ms: int = 0, trace: str = ""
) -> bytes:
    """What a body begins with; the tensors of these entries follow."""
    header = _encoder.encode(TensorHeader(entries, timeout_ms, trace))
    head_pad = -(_U32.size + len(header)) % 8
    return b"".join((_U32.pack(len(header)), header, bytes(head_pad)))


def _items(array: Array) -> list[Any]:
    items: list[Any] = array.ravel().tolist()
    return items


def encode_times(times: Times) -> bytes:
    """What a RESULT body ends in. Times over 71 minutes are told as that."""
    queue_us, run_us = int(times.queue_s * 1e6), int(times.run_s * 1e6)
    try:
        return _TIMES.pack(queue_us, run_us, times.call_rows, times.batches, times.batch_rows)
    except struct.error:
        small = (queue_us, run_us, times.call_rows, times.batches)
        return _TIMES.pack(*(min(_MOST_U32, max(0, one)) for one in small), times.batch_rows)


def decode_tensors(body: memoryview) -> tuple[dict[str, Array], int]:
    """The tensors of an INFER or RESULT body, and its `timeout_ms`.

    Numeric arrays are views into `body`: nothing is copied.

    Raises:
        InvalidRequest: the body does not follow the layout.
    """
    tensors, header, _ = _decoded_tensors(body)
    return tensors, header.timeout_ms


def decode_request(body: memoryview) -> tuple[dict[str, Array], int, str]:
    """The tensors of an INFER body, its `timeout_ms` and its `trace`.

    Raises: as `decode_tensors`.
    """
    tensors, header, _ = _decoded_tensors(body)
    return tensors, header.timeout_ms, header.trace


def decode_result(body: memoryview) -> tuple[dict[str, Array], Times | None]:
    """The tensors of a RESULT body, and its times; None where the replica does not tell them.

    Raises: as `decode_tensors`.
    """
    tensors, _, end = _decoded_tensors(body)
    if len(body) - end != TIMES_BYTES:
        return tensors, None
    queue_us, run_us, call_rows, batches, batch_rows = _TIMES.unpack_from(body, end)
    times = Times(queue_us / 1e6, run_us / 1e6, call_rows, batches, min(_MOST_ROWS, batch_rows))
    return tensors, times


def _decoded_tensors(body: memoryview) -> tuple[dict[str, Array], TensorHeader, int]:
    """The tensors, the header, and where the tensors end."""
    try:
        (length,) = _U32.unpack_from(body)
        header = _header_decoder.decode(body[_U32.size : _U32.size + length])
        offset = _U32.size + length
        offset += -offset % 8
        tensors: dict[str, Array] = {}
        for name, kind, shape, size in header.tensors:
            if size < 0 or min(shape, default=0) < 0:
                raise ValueError("a size is negative")
            tensors[name] = _array(kind, shape, body[offset : offset + size])
            offset += size + (-size % 8)
    except (struct.error, ValueError, OverflowError, *_DAMAGE) as exc:
        raise InvalidRequest(f"A tensor frame is malformed: {exc}.") from exc
    return tensors, header, offset


def _array(kind: str, shape: tuple[int, ...], data: memoryview) -> Array:
    dtype = _NUMERIC.get(kind)
    if dtype is not None:
        return np.frombuffer(data, dtype).reshape(shape)
    DataType(kind)
    items = _any_decoder.decode(data)
    array = np.empty(len(items), dtype=object)  # not of the shape, which costs its sender nothing
    array[:] = items
    return array.reshape(shape)


def decode_failure(body: memoryview) -> ShipwayError:
    """The error in a FAIL body.

    Raises:
        InvalidRequest: it is none.
    """
    return decode_failed(body)[0]


def decode_failed(body: memoryview) -> tuple[ShipwayError, Times | None]:
    """The error in a FAIL body, and its times, within the bounds that those of a RESULT have.

    Raises:
        InvalidRequest: it is none.
    """
    failure = _decoded(_failure_decoder, body)
    return failure.error(), None if failure.times is None else _bounded(failure.times)


def _bounded(times: Times) -> Times:
    """A model's process may say anything, and counts that are none would spoil those of all."""
    longest_s = _MOST_U32 / 1e6  # and NaN becomes 0
    queue_s, run_s = (min(longest_s, max(0.0, one)) for one in (times.queue_s, times.run_s))
    call_rows, batches = (min(_MOST_U32, max(0, one)) for one in (times.call_rows, times.batches))
    return Times(queue_s, run_s, call_rows, batches, min(_MOST_ROWS, max(0, times.batch_rows)))


def decode_pong(body: memoryview) -> Pong:
    """The PONG body.

    Raises:
        InvalidRequest: it is none.
    """
    return _decoded(_pong_decoder, body)


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: memoryview) -> T:
    try:
        return decoder.decode(body)
    except _DAMAGE as exc:
        raise InvalidRequest(f"A frame is malformed: {exc}.") from exc


class FrameReader:
    """Received bytes become frames. No I/O: feed it, and iterate over what is complete.

    Every body is copied once, from what was received into memory of its own.
    """

    def __init__(self) -> None:
        self._head = b""
        self._body: bytearray | None = None
        self._size = self._filled = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete, in order.

        Raises:
            InvalidRequest: the length or the kind is impossible; close the connection.
        """
        start, end = 0, len(data)
        if self._body is None and self._head:
            data = self._head + data
            self._head, end = b"", len(data)
        view = memoryview(data)
        while start < end:
            if self._body is None:
                if end - start < _HEAD.size:
                    self._head = bytes(view[start:])
                    return
                size = _body_size(data, start)
                if end - start < _HEAD.size + size:
                    _kind(data[start + _U32.size])
                    self._head = bytes(view[start : start + _HEAD.size])
                    self._size, self._filled = size, 0
                    self._body = bytearray(min(size, _FIRST_BYTES))
                    start += _HEAD.size
                    continue
                _, kind, stream = _HEAD.unpack_from(data, start)
                start += _HEAD.size + size
                yield Frame(_kind(kind), stream, memoryview(bytearray(view[start - size : start])))
                continue
            take = min(end - start, self._size - self._filled)
            self._body[self._filled : self._filled + take] = view[start : start + take]
            self._filled += take
            start += take
            if self._filled == self._size:
                yield self._completed(self._body)

    def _completed(self, body: bytearray) -> Frame:
        _, kind, stream = _HEAD.unpack(self._head)
        self._head, self._body = b"", None
        return Frame(_kind(kind), stream, memoryview(body))


def _body_size(data: bytes, start: int) -> int:
    length: int = _U32.unpack_from(data, start)[0]
    if length > MAX_FRAME_BYTES or length < _HEAD_REST:
        raise InvalidRequest(f"A frame of {length} bytes is impossible.")
    return length - _HEAD_REST


def _kind(number: int) -> Kind:
    kind = _KINDS.get(number)
    if kind is None:
        raise InvalidRequest(f"A frame has an unknown kind: {number}.")
    return kind
