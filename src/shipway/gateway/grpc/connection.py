"""gRPC on an HTTP/2 connection: requests to methods, replies to frames.

A reply that is known at once is written in the callback that completed its request, and all replies of
one read leave in one write. A caller that resets its call, or goes away, cancels it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from shipway.core.errors import DeadlineExceeded, InvalidRequest, ShipwayError
from shipway.gateway.crowd import Crowd
from shipway.gateway.grpc import frames
from shipway.gateway.grpc.call import HEADERS, MESSAGE_HEAD, OK_TRAILERS, Form, Reply, Service
from shipway.gateway.grpc.frames import FRAME_HEAD, MAX_FRAME_BYTES, Fault, Kind
from shipway.gateway.grpc.heads import Head
from shipway.gateway.grpc.http2 import RESETS_PER_S, Http2
from shipway.gateway.grpc.status import Code
from shipway.gateway.grpc.streams import Stream

KEEPALIVE_S = 60.0
"""A connection silent for so long is asked whether its peer is there."""

GONE_S = 20.0
"""A peer that has not answered that for so long is not."""

IDLE_S = 600.0
"""A connection without a call for so long is closed; clients connect again when they need to."""

UNFINISHED_S = 75.0
"""A call whose peer neither sends what it announced nor takes its reply is given up after so long."""

BEGINNING_S = 10.0
"""A peer that has not greeted, or not ended the head that it began, after so long is gone."""

_STOPPING = Reply.ending(Code.UNAVAILABLE, "The gateway is stopping. Call again.")
_CANCELLED = Reply.ending(Code.CANCELLED, "The call was cancelled.")
_HEAD_BYTES = MESSAGE_HEAD.size
_HEADERS_SIZE = len(HEADERS)


class Connection(Http2):
    """One caller's connection, with its calls."""

    def __init__(self, service: Service, crowd: Crowd[Any]) -> None:
        super().__init__(service, crowd)
        self._limit = service.message_limit
        self._failed = service.failed
        self._watches: set[Stream] = set()
        self._last_call = self._last_tick = self._last_heard
        self._asked_at: float | None = None

    def opened(self, stream: Stream, head: Head) -> None:
        """See Http2."""
        if head.refusal is not None:
            stream.headers, stream.trailers = head.refusal, b""
            self._send(stream)
        elif head.timeout_s is not None:
            stream.until = self._last_heard + head.timeout_s
            if head.form is not Form.UNARY:
                stream.timer = self._loop.call_at(stream.until, self._expire, stream)

    def received(self, stream: Stream, data: bytes) -> None:
        """See Http2: answers the requests that have arrived."""
        form = stream.head.form
        if form is Form.UNARY and stream.is_complete and not stream.buffer and _is_whole(data):
            self._answer(stream, data[_HEAD_BYTES:])
            return
        stream.buffer += data
        try:
            self._hold(stream)
            if form is Form.STREAM:
                self._take_several(stream)
            else:
                self._take_one(stream)
        except ShipwayError as exc:
            self._end(stream, Reply.refusing(exc))
        self._release(stream, len(stream.buffer) if stream.id in self._streams else 0)

    def drained(self, stream: Stream) -> None:
        """See Http2: there is room for the replies of further requests."""
        if stream.head.form is Form.STREAM:
            self.received(stream, b"")

    def _take_one(self, stream: Stream) -> None:
        if not stream.is_complete:
            stream.require_fitting(self._limit)
            self._grant(stream)
            return
        message = stream.take_message(self._limit)
        if message is None or stream.buffer:
            raise InvalidRequest("The call does not hold exactly one whole message.")
        if stream.head.form is Form.WATCH:
            stream.watched = (message, b"")
            self._watches.add(stream)
            self._look(stream)
        else:
            self._answer(stream, message)

    def _take_several(self, stream: Stream) -> None:
        while stream.final is None and not stream.is_full:
            message = stream.take_message(self._limit)
            if message is None:
                self._grant(stream)
                if stream.is_complete and stream.buffer:
                    raise InvalidRequest("The call ends in the middle of a message.")
                break
            answer = self._asked(stream, message)
            stream.waiting.append(answer)
            if not isinstance(answer, Reply):
                answer.add_done_callback(partial(self._advance, stream))
            elif len(stream.waiting) == 1:
                self._pass_on(stream)
                if stream.id not in self._streams:
                    return
        self._pass_on(stream)

    def _asked(self, stream: Stream, message: bytes) -> Reply | asyncio.Task[Reply]:
        self._nuisance = 0
        head = stream.head
        if stream.until is None:
            return head.answer(message, None, head.metadata)
        left_s = stream.until - self._loop.time()
        if left_s <= 0:
            return Reply.refusing(_too_late())
        return head.answer(message, left_s, head.metadata)

    def _answer(self, stream: Stream, message: bytes) -> None:
        """Answers the one request of a call."""
        answer = self._asked(stream, message)
        if isinstance(answer, Reply):
            self._end(stream, answer)
        else:
            stream.waiting.append(answer)
            answer.add_done_callback(partial(self._answer_late, stream))

    def _answer_late(self, stream: Stream, task: asyncio.Task[Reply]) -> None:
        if stream.id in self._streams:
            self._end(stream, _CANCELLED if task.cancelled() else task.result())
            self._flush_soon()

    def _advance(self, stream: Stream, task: asyncio.Task[Reply]) -> None:
        if stream.id in self._streams:
            self._pass_on(stream)
            if stream.id in self._streams:
                self.received(stream, b"")
            self._flush_soon()

    def _pass_on(self, stream: Stream) -> None:
        """Sends the replies of a STREAM whose turn has come, and ends it after the last."""
        waiting = stream.waiting
        while waiting:
            first = waiting[0]
            if not isinstance(first, Reply):
                if not first.done():
                    break
                first = _CANCELLED if first.cancelled() else first.result()
            waiting.popleft()
            if first.failure is not None and first.message:
                first = self._failed(stream.head.metadata, first)
            if not first.message:
                self._end(stream, first)
                return
            stream.outbox.append(memoryview(first.message))
        if not waiting:
            if stream.final is not None:
                stream.trailers = stream.final
            elif stream.is_complete and not stream.buffer:
                stream.trailers = OK_TRAILERS
        self._send(stream)

    def _end(self, stream: Stream, reply: Reply) -> None:
        """Sends a call's last reply, or its failure, and its trailers."""
        if reply.failure is not None:
            reply = self._failed(stream.head.metadata, reply)
        message = reply.message
        size = len(message)
        self._last_call = self._last_heard
        if (
            size
            and size <= min(self._room, stream.room, MAX_FRAME_BYTES)
            and stream.head.form is Form.UNARY
            and not self._shrinks_table
            and not self._is_stopping
        ):
            self._room -= size
            number, trailers = stream.id, reply.trailers
            self._out += (
                FRAME_HEAD.pack(0, _HEADERS_SIZE, Kind.HEADERS, frames.END_HEADERS, number),
                HEADERS,
                FRAME_HEAD.pack(0, size, Kind.DATA, 0, number),
                message,
                FRAME_HEAD.pack(0, len(trailers), Kind.HEADERS, _LAST, number),
                trailers,
            )
            del self._streams[number]
            return
        if message:
            stream.outbox.append(memoryview(message))
        stream.trailers = reply.trailers
        self._send(stream)

    def _expire(self, stream: Stream) -> None:
        if stream.id in self._streams:
            stream.outbox.clear()
            self._end(stream, Reply.refusing(_too_late()))
            self._flush_soon()

    def _look(self, stream: Stream) -> None:
        """Sends the present reply of a WATCH, when it is another than the last."""
        if stream.watched is None:
            return
        message, last = stream.watched
        reply = stream.head.answer(message, None, stream.head.metadata)
        if not isinstance(reply, Reply) or (reply.message and reply.message == last):
            return
        stream.watched = (message, reply.message)
        if reply.message:
            stream.outbox.append(memoryview(reply.message))
            self._send(stream)
        else:
            self._end(stream, reply)

    def _forget(self, stream: Stream) -> None:
        self._watches.discard(stream)
        super()._forget(stream)

    def stop(self) -> None:
        """Takes no more calls, and closes when those that it has are answered."""
        self._is_stopping = True
        self._out.append(frames.goaway(self._last_id, Fault.NO_ERROR))
        for stream in list(self._streams.values()):
            if stream.head.form is Form.WATCH:
                self._end(stream, _STOPPING)
            elif stream.head.form is Form.STREAM:
                stream.final = _STOPPING.trailers
                self._pass_on(stream)
        self._flush()
        if not self._streams:
            self.close()

    def tick(self, now: float) -> None:
        """Looks at watches, at calls that do not go on, and whether the peer is there."""
        self._nuisance = 0
        self._resets = max(0.0, self._resets - RESETS_PER_S * (now - self._last_tick))
        self._last_tick = now
        if self._waits_for_beginning and now - self._waits_since > BEGINNING_S:
            self.drop()
            return
        for stream in tuple(self._watches):
            self._look(stream)
        for stream in list(self._streams.values()):
            if self._is_given_up(stream, now):
                self._abandon(stream)
        silent_s = now - self._last_heard
        if silent_s < KEEPALIVE_S:
            self._asked_at = None
            if not self._streams and now - self._last_call > IDLE_S:
                self.stop()
        elif self._asked_at is None:
            self._asked_at = now
            self._out.append(frames.frame(Kind.PING, 0, 0, bytes(frames.PING_BYTES)))
        elif now - self._asked_at > GONE_S:
            self.drop()
        self._flush()

    def _is_given_up(self, stream: Stream, now: float) -> bool:
        """Whether the peer of a call neither sends nor takes, or does so too slowly."""
        if not stream.waits_for_peer:
            stream.waits_since, stream.moved = now, 0
            return False
        return now - stream.touched > UNFINISHED_S or self._crowd.patience.is_too_slow(
            elapsed_s=now - stream.waits_since, received_bytes=stream.moved
        )


_LAST = frames.END_HEADERS | frames.END_STREAM


def _is_whole(data: bytes) -> bool:
    """Whether the data is exactly one message that is not compressed."""
    size = len(data) - _HEAD_BYTES
    return size >= 0 and not data[0] and int.from_bytes(data[1:_HEAD_BYTES], "big") == size


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The call's deadline passed before it was answered.", next_step="Allow it more time."
    )
