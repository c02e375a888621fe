"""The server's side of HTTP/2 (RFC 9113): frames, windows, and the life of a connection.

What a call's messages mean is for `connection.Connection`, which is derived from this. Bounded: the calls
of a connection, the size of a head, frames that bring no work, calls that are taken back, and what a
caller may send ahead.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

from shipway.gateway.crowd import Crowd
from shipway.gateway.grpc import frames
from shipway.gateway.grpc.call import Service
from shipway.gateway.grpc.frames import FRAME_HEAD, MAX_FRAME_BYTES, ConnectionFault, Fault, Kind
from shipway.gateway.grpc.frames import Setting as Of
from shipway.gateway.grpc.heads import HEAD_LIMIT_BYTES, Head, HeadReader
from shipway.gateway.grpc.streams import Stream
from shipway.gateway.http import source_of
from shipway.tls.peers import peer_of

MAX_STREAMS = 256
"""Calls on one connection at once; the peer is told, and keeps the next ones back."""

STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 8 * 1024 * 1024
MAX_NUISANCE = 2000
"""Frames that ask for work and bring none (RFC 9113, 10.5), in a row, between two looks."""

MAX_RESETS = 1000
"""Calls that a caller may take back at once; each was work for nobody (CVE-2023-44487)."""

RESETS_PER_S = 500
"""How many more it may in each second after that."""

SMALL_UPDATE_BYTES = 128
"""A smaller WINDOW_UPDATE asks for a frame that carries less than it costs."""

_HTTP1_TEXT = b"This port speaks gRPC (HTTP/2); REST is on the gateway's other port.\n"
_HTTP1 = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n"


class Http2(asyncio.Protocol, ABC):
    """One connection. Calls are `Stream`s; the derived class opens, reads and answers them."""

    def __init__(self, service: Service, crowd: Crowd[Any]) -> None:
        self._crowd = crowd
        self._loop = asyncio.get_running_loop()
        self._heads = HeadReader(service.methods)
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._has_preface = False
        self._unfinished: tuple[int, int, bytes] | None = None
        self._streams: dict[int, Stream] = {}
        self._last_id = 0  # of the calls that were taken
        self._highest_id = 0  # of those that were refused too
        self._unread = 0
        self._room = self._stream_room = frames.INITIAL_WINDOW_BYTES
        self._shrinks_table = False
        self._out: list[bytes] = []
        self._is_reading = False
        self._is_flushing = False
        self._is_stopping = False
        self._nuisance = 0
        self._resets = 0.0
        self._last_heard = self._waits_since = self._loop.time()
        self._on_frame: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._data,
            Kind.HEADERS: self._headers,
            Kind.PRIORITY: self._ignored,
            Kind.RST_STREAM: self._reset,
            Kind.SETTINGS: self._settings,
            Kind.PUSH_PROMISE: self._pushed,
            Kind.PING: self._ping,
            Kind.GOAWAY: self._ignored,
            Kind.WINDOW_UPDATE: self._window_update,
            Kind.CONTINUATION: self._continuation,
        }

    @abstractmethod
    def opened(self, stream: Stream, head: Head) -> None:
        """A call has begun."""

    @abstractmethod
    def received(self, stream: Stream, data: bytes) -> None:
        """Data of a call has arrived, the last of it when `stream.is_complete`."""

    @abstractmethod
    def drained(self, stream: Stream) -> None:
        """The peer has taken some of what waited for it."""

    # The connection's life

    @property
    def last_heard(self) -> float:
        """When anything came of the peer, by the loop's clock."""
        return self._last_heard

    @property
    def is_busy(self) -> bool:
        """Whether the connection has a call."""
        return bool(self._streams)

    @property
    def _waits_for_beginning(self) -> bool:
        """Whether the peer has still to greet, or to end the head that it began."""
        return not self._has_preface or self._unfinished is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio: the server's settings come first."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._heads.peer = peer_of(transport)
        self._crowd.enter(self)
        self._heads.source = source_of(transport)
        own = (
            (Of.MAX_CONCURRENT_STREAMS, MAX_STREAMS),
            (Of.INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (Of.MAX_HEADER_LIST_SIZE, HEAD_LIMIT_BYTES),
        )
        ahead = CONNECTION_WINDOW_BYTES - frames.INITIAL_WINDOW_BYTES
        self._transport.write(frames.settings(own) + frames.window_update(0, ahead))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: nobody waits for any reply any more."""
        self._crowd.leave(self)
        self._transport = None
        for stream in list(self._streams.values()):
            self._forget(stream)

    def pause_writing(self) -> None:
        """Called by asyncio: the caller does not read, so nothing more is read of it."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Closes once what was written has been sent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """Closes now."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._last_heard = self._loop.time()
        self._is_reading = True
        try:
            self._read(self._rest + data if self._rest else data)
        except ConnectionFault as fault:
            self._out.append(frames.goaway(self._last_id, fault.fault, fault.fact))
            self.close()
        self._is_reading = False
        self._flush()

    def _read(self, data: bytes) -> None:
        size, offset = len(data), 0
        if not self._has_preface:
            if size < len(frames.PREFACE) and frames.PREFACE.startswith(data):
                self._rest = data
                return
            if not data.startswith(frames.PREFACE):
                self._answer_http1()
                return
            self._has_preface, offset = True, len(frames.PREFACE)
        while size - offset >= FRAME_HEAD.size:
            high, low, kind, flags, stream_id = FRAME_HEAD.unpack_from(data, offset)
            length = high << 16 | low
            if length > MAX_FRAME_BYTES:
                raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "a frame is over 16384 bytes")
            end = offset + FRAME_HEAD.size + length
            if end > size:
                break
            if self._unfinished is not None and kind != Kind.CONTINUATION:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "a frame amid a header block")
            handle = self._on_frame.get(kind)
            if handle is None:
                self._trouble()
            else:
                payload = data[offset + FRAME_HEAD.size : end]
                handle(flags, stream_id & frames.STREAM_MASK, payload)
            offset = end
        self._rest = data[offset:]

    def _answer_http1(self) -> None:
        """Tells somebody who speaks HTTP/1.1 where they are."""
        self._out = [_HTTP1, b"content-length: %d\r\n\r\n" % len(_HTTP1_TEXT), _HTTP1_TEXT]
        self._has_preface = True  # what follows is frames of nothing, and the connection closes
        self.close()

    # What arrives

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.PRIORITY):
            payload = frames.without_extras(payload, flags, with_priority=True)
        if flags & frames.END_HEADERS:
            self._open(flags, stream_id, payload)
        else:
            self._unfinished = (stream_id, flags, payload)
            self._waits_since = self._last_heard

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._unfinished is None or self._unfinished[0] != stream_id:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a CONTINUATION of nothing")
        _, first_flags, block = self._unfinished
        block += payload
        self._trouble()
        if len(block) > HEAD_LIMIT_BYTES:
            raise ConnectionFault(
                Fault.ENHANCE_YOUR_CALM, f"a head is over {HEAD_LIMIT_BYTES} bytes"
            )
        self._unfinished = (stream_id, first_flags, block)
        if flags & frames.END_HEADERS:
            self._unfinished = None
            self._open(first_flags, stream_id, block)

    def _open(self, flags: int, stream_id: int, block: bytes) -> None:
        head = self._heads.read(block)  # of refused calls too: later blocks build on it
        stream = self._streams.get(stream_id)
        if stream is not None:
            if stream.is_complete or not flags & frames.END_STREAM:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "a second head of a call")
            self._complete(stream)
            return
        if stream_id % 2 == 0:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a stream number that is not the caller's")
        if stream_id <= self._highest_id:
            return  # trailers of a call that has ended here already
        self._highest_id = stream_id
        if self._is_stopping or len(self._streams) >= MAX_STREAMS:
            self._out.append(frames.reset(stream_id, Fault.REFUSED_STREAM))
            self._trouble()
            return
        self._last_id = stream_id
        stream = self._streams[stream_id] = Stream(stream_id, head, self._stream_room)
        stream.touched = stream.waits_since = self._last_heard
        self.opened(stream, head)
        if flags & frames.END_STREAM and stream_id in self._streams:
            self._complete(stream)

    def _complete(self, stream: Stream) -> None:
        stream.is_complete = True
        self.received(stream, b"")

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._unread += size
        if self._unread >= CONNECTION_WINDOW_BYTES // 2:
            self._out.append(frames.window_update(0, self._unread))
            self._unread = 0
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_complete:
            if stream_id > self._highest_id or not stream_id:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "data of no call")
            self._trouble()
            return  # of a call that has ended here already
        stream.unread += size
        if stream.unread > STREAM_WINDOW_BYTES:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "data beyond the window")
        if flags & frames.PADDED:
            payload = frames.without_extras(payload, flags, with_priority=False)
        if flags & frames.END_STREAM:
            stream.is_complete = True
        elif not payload:
            self._trouble()
        stream.touched = self._last_heard
        stream.moved += size
        self.received(stream, payload)

    def _grant(self, stream: Stream) -> None:
        """Lets the peer send on: its data of a call was taken."""
        if stream.unread >= STREAM_WINDOW_BYTES // 2 and not stream.is_complete:
            self._out.append(frames.window_update(stream.id, stream.unread))
            stream.unread = 0

    def _reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._trouble()
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._resets += 1
            if self._resets > MAX_RESETS:
                raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "too many calls are taken back")
            self._forget(stream)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        self._trouble()
        # The last value of each counts: a frame has room for thousands, and each would be a look at all calls.
        for setting, value in dict(frames.settings_in(payload)).items():
            if setting == Of.INITIAL_WINDOW_SIZE:
                self._resize_windows(value)
            elif setting == Of.HEADER_TABLE_SIZE and value < frames.TABLE_BYTES:
                self._shrinks_table = True
        self._out.append(frames.frame(Kind.SETTINGS, frames.ACK, 0, b""))

    def _resize_windows(self, size: int) -> None:
        if size > frames.LARGEST_WINDOW_BYTES:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "a window over 2^31-1")
        for stream in list(self._streams.values()):
            stream.room += size - self._stream_room
            _require_window(stream.room)
            self._resume(stream)
        self._stream_room = size

    def _window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = frames.uint(payload)
        if not size:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
        if size < SMALL_UPDATE_BYTES:
            self._trouble()
        if not stream_id:
            self._room += size
            _require_window(self._room)
            for blocked in [s for s in self._streams.values() if s.outbox]:
                if self._room <= 0:
                    break
                self._resume(blocked)
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.room += size
            _require_window(stream.room)
            self._resume(stream)

    def _resume(self, stream: Stream) -> None:
        if stream.outbox:
            self._send(stream)
            if stream.id in self._streams:
                self.drained(stream)

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != frames.PING_BYTES:
            raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "a PING of a wrong length")
        if not flags & frames.ACK:
            self._trouble()
            self._out.append(frames.frame(Kind.PING, frames.ACK, 0, payload))

    def _pushed(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(Fault.PROTOCOL_ERROR, "callers do not push")

    def _ignored(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._trouble()

    def _trouble(self) -> None:
        self._nuisance += 1
        if self._nuisance > MAX_NUISANCE:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "too many frames that bring no work")

    # What is sent

    def _send(self, stream: Stream) -> None:
        """Sends what waits of a call, as far as the peer's windows reach, and ends it with its trailers."""
        outbox = stream.outbox
        if outbox and not stream.has_headers:
            stream.has_headers = True
            self._send_block(stream.headers, stream.id, end_stream=False)
        while outbox:
            view = outbox[0]
            size = min(len(view), MAX_FRAME_BYTES, stream.room, self._room)
            if size <= 0:
                return
            stream.room -= size
            self._room -= size
            self._out += (frames.head(Kind.DATA, 0, stream.id, size), bytes(view[:size]))
            stream.touched = self._last_heard
            stream.moved += size
            if size == len(view):
                outbox.popleft()
            else:
                outbox[0] = view[size:]
        if stream.trailers is not None:
            block = stream.trailers if stream.has_headers else stream.headers + stream.trailers
            self._send_block(block, stream.id, end_stream=True)
            if not stream.is_complete:  # RFC 9113, 8.1: the peer need not send the rest
                self._out.append(frames.reset(stream.id, Fault.NO_ERROR))
            self._forget(stream)

    def _send_block(self, block: bytes, stream_id: int, *, end_stream: bool) -> None:
        if self._shrinks_table:
            self._shrinks_table = False
            block = frames.TABLE_EMPTIED + block
        self._out.append(frames.header_frames(block, stream_id, end_stream=end_stream))

    def _abandon(self, stream: Stream) -> None:
        """Ends a call of a peer that neither sends nor takes."""
        self._out.append(frames.reset(stream.id, Fault.CANCEL))
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)
        self._release(stream, 0)
        stream.cancel()
        if self._is_stopping and not self._streams:
            self._loop.call_soon(self.close)

    def _hold(self, stream: Stream) -> None:
        """Counts what waits of an unfinished message among what all connections hold.

        Raises:
            QueueFull: that is too much.
        """
        more, held = len(stream.buffer) - stream.held, stream.held
        if more > 0:
            stream.held += more
            self._crowd.hold(more, held)

    def _release(self, stream: Stream, left: int) -> None:
        if stream.held > left:
            self._crowd.release(stream.held - left)
            stream.held = left

    def _flush(self) -> None:
        if self._out:
            if self._transport is not None:
                self._transport.write(b"".join(self._out))
            self._out.clear()

    def _flush_soon(self) -> None:
        """Sends with everything else that becomes known in this turn of the loop."""
        if not self._is_reading and not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._is_flushing = False
        self._flush()


def _require_window(size: int) -> None:
    if size > frames.LARGEST_WINDOW_BYTES:
        raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "a window over 2^31-1")
