"""HTTP/1.1 for the gateway: bytes to requests, answers to bytes, as little in between as can be.

A server for one kind of application: it reads whole bodies up to a limit that depends on the path,
and gives whole answers. An answer that is known at once is written in the callback that completed
the request: no task, no second write. Parsing is httptools' (llhttp).

Bounded: the size of a head and of a body, requests waiting on one connection, how long a request may
take to arrive, how long a connection may be silent, connections, and what all of them hold unfinished.
A caller that goes away cancels its request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Protocol, cast
from urllib.parse import unquote

import httptools

from shipway.core.errors import BodyTooLarge, InvalidRequest, ShipwayError
from shipway.gateway.accepting import Acceptor
from shipway.gateway.crowd import Crowd
from shipway.tls.peers import peer_of
from shipway.wire.codec import Answer
from shipway.wire.head import (
    HEAD_LIMIT_BYTES,
    MAX_FIELDS,
    TARGET_LIMIT_BYTES,
    head_too_large,
    joined,
    local_path,
    plain_head,
    require_sound,
    target_too_long,
)

SMALL_PIECE_BYTES = 4096
"""Smaller pieces of a body are gathered, for each would cost more to keep than it holds."""

_FAILED = 500

MAX_PIPELINED = 16
"""Requests that may wait on one connection behind the one being answered."""


class Request:
    """One complete request. Header names are in lower case; `path` is without the query.

    `source` and `peer` are as in `wire.callers.Sent`.
    """

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "peer", "query", "source")

    def __init__(
        self, method: str, target: bytes, headers: dict[bytes, bytes], *, peer: str = ""
    ) -> None:
        path, _, query = target.partition(b"?")
        path = local_path(path)
        self.method = method
        self.path = unquote(path.decode("latin-1")) if b"%" in path else path.decode("latin-1")
        self.query = query
        self.headers = headers
        self.peer = peer
        self.body = b""
        self.keep_alive = True
        self.source = ""

    @property
    def size_bytes(self) -> int:
        """The size of the body."""
        return len(self.body)


class Application(Protocol):
    """What answers the requests."""

    def handle(self, request: Request) -> Answer | asyncio.Task[Answer]:
        """The answer when it is known at once, else the task that makes it. Raises nothing."""
        ...

    def body_limit(self, request: Request) -> int:
        """How many bytes the body of this request, of which the head is known, may have."""
        ...

    def refuse(self, error: ShipwayError, path: str) -> Answer:
        """The answer for a request that could not be read; `path` is empty when it is not known."""
        ...

    def failed(self, request: Request, answer: Answer) -> Answer:
        """What is sent in place of an answer whose status is 500 or above. Raises nothing."""
        ...


_HEADS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def source_of(transport: asyncio.BaseTransport) -> str:
    """The address at the other end of a connection; empty where it has none."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else ""


def encoded(answer: Answer, *, keep_alive: bool, with_body: bool) -> bytes:
    """The bytes of an answer, head and body in one piece."""
    parts = [_HEADS[answer.status]]
    for name, value in answer.headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"content-length: %d\r\n" % len(answer.body))
    parts.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    if with_body:
        parts.append(answer.body)
    return b"".join(parts)


class Connection(asyncio.Protocol):
    """One caller's connection. Requests are answered in the order they came."""

    def __init__(self, application: Application, crowd: Crowd[Connection]) -> None:
        self._application = application
        self._crowd = crowd
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._source = ""
        self._peer = ""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_size = self._fields = 0
        self._unfinished = 0
        self._request: Request | None = None
        self._pieces: list[bytes] = []
        self._small = bytearray()
        self._body_size = self._held = 0
        self._limit = 0
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[Answer] | None = None
        self._is_stopping = False
        self._is_full = False
        self.last_heard = monotonic()
        self._began: float | None = None
        self._arrived = 0
        self._unsent = 0

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._peer = peer_of(transport)
        self._crowd.enter(self)
        self._source = source_of(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: nobody waits for the answer any more."""
        self._crowd.leave(self)
        self._transport = None
        self._forget_body()
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Called by asyncio: the caller does not read its answers, so its requests wait."""
        self._is_full = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._is_full = False
        self._answer_waiting()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self.last_heard = monotonic()
        if self._began is None:
            self._began, self._arrived = self.last_heard, 0
        self._arrived += len(data)
        self._unfinished += len(data)
        try:
            while data:
                data = self._fed(data)
            # The parser keeps a header to itself until it is complete.
            if self._unfinished > HEAD_LIMIT_BYTES:
                raise head_too_large()
            self._hold_body()
        except ShipwayError as exc:
            self._refuse(exc)
        except httptools.HttpParserCallbackError as exc:
            cause = exc.__context__
            self._refuse(
                cause if isinstance(cause, ShipwayError) else InvalidRequest("Malformed HTTP.")
            )
        except httptools.HttpParserError as exc:
            self._refuse(InvalidRequest(f"The request is not HTTP: {exc}."))

    def _fed(self, data: bytes) -> bytes:
        """Feeds the parser; gives what is still to be fed.

        A wish to upgrade may be passed over (RFC 9110, 7.8), but the parser stops at one, and reads no
        body: the head is read again without it.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            parser, self._parser = self._parser, httptools.HttpRequestParser(self)
            line = b"%s %s HTTP/1.1" % (parser.get_method(), self._target)
            return plain_head(line, self._headers) + data[exc.args[0] :]
        return b""

    def on_message_begin(self) -> None:
        """Called by the parser. What trailers a request before had is not of this one."""
        self._target, self._headers, self._head_size, self._fields = b"", {}, 0, 0
        if self._began is None:
            self._began, self._arrived = self.last_heard, 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser, possibly with parts."""
        self._target += url
        if len(self._target) > TARGET_LIMIT_BYTES:
            raise target_too_long()
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, with trailers too; those are passed over."""
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise head_too_large()
        self._count_head(len(name) + len(value))
        if self._request is None:
            name = name.lower()
            known = self._headers.get(name)
            self._headers[name] = value if known is None else joined(name, known, value)

    def on_headers_complete(self) -> None:
        """Called by the parser: the request is known but for its body."""
        method = self._parser.get_method().decode("latin-1")
        version = self._parser.get_http_version()
        require_sound(method, version, self._headers)
        if self._parser.should_upgrade():
            return
        request = Request(method, self._target, self._headers, peer=self._peer)
        request.keep_alive = self._parser.should_keep_alive()
        request.source = self._source
        self._head_size = self._fields = 0
        self._unfinished = 0
        self._request = request
        self._limit = self._application.body_limit(request)
        announced = request.headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limit:
            raise _too_large(self._limit)
        # With an answer outstanding, the caller would take this one for it.
        is_next = self._task is None and not self._waiting
        if request.headers.get(b"expect", b"").lower() == b"100-continue" and is_next:
            self._promise(version)

    def _promise(self, version: str) -> None:
        if self._transport is not None and version == "1.1":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Called by the parser, with a part."""
        size = len(body)
        self._unfinished = 0
        self._body_size += size
        if self._body_size > self._limit:
            raise _too_large(self._limit)
        if not self._pieces:
            self._pieces.append(body)
        elif size < SMALL_PIECE_BYTES:
            self._small += body
        else:
            self._gather()
            self._pieces.append(body)

    def _gather(self) -> None:
        if self._small:
            self._pieces.append(bytes(self._small))
            self._small.clear()

    def on_message_complete(self) -> None:
        """Called by the parser: answer now, or after those before it."""
        request, pieces = self._request, self._pieces
        if request is None:
            return
        self._gather()
        request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._request, self._began = None, None
        self._forget_body()
        self._unfinished = 0
        if self._task is None and not self._waiting and not self._is_full:
            self._answer(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) >= MAX_PIPELINED and self._transport is not None:
                self._transport.pause_reading()

    def _hold_body(self) -> None:
        """Counts what has arrived of an unfinished body among what all connections hold."""
        more, held = self._body_size - self._held, self._held
        if more:
            self._held = self._body_size
            self._crowd.hold(more, held)

    def _forget_body(self) -> None:
        if self._held:
            self._crowd.release(self._held)
        self._pieces, self._body_size, self._held = [], 0, 0
        self._small.clear()

    def look(self, now: float) -> None:
        """Closes the connection when its caller is too slow, or has fallen silent."""
        patience = self._crowd.patience
        unsent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if self._unsent - unsent >= patience.least_bytes_per_s * patience.look_every_s:
            self.last_heard = now  # it reads
        self._unsent = unsent
        if self.is_busy:
            return
        is_slow = self._began is not None and patience.is_too_slow(
            elapsed_s=now - self._began, received_bytes=self._arrived
        )
        if now - self.last_heard > patience.idle_s or (is_slow and not self._waiting):
            self.drop()

    def stop(self) -> None:
        """Closes when the request being answered, if any, has its answer."""
        self._is_stopping = True
        if self._task is None:
            self.close()

    def close(self) -> None:
        """Closes once what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """Closes now: a caller that does not read would keep what it was sent for ever."""
        if self._transport is not None:
            self._transport.abort()

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEAD_LIMIT_BYTES:
            raise head_too_large()

    def _answer(self, request: Request) -> None:
        answer = self._application.handle(request)
        if isinstance(answer, Answer):
            self._write(request, answer)
        else:
            self._task = answer
            answer.add_done_callback(partial(self._answer_late, request))

    def _answer_late(self, request: Request, task: asyncio.Task[Answer]) -> None:
        self._task = None
        if self._transport is None or task.cancelled():
            return
        if self._began is not None:
            self._began = monotonic()  # the next request waited for this one
        self._write(request, task.result())
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        while self._waiting and self._task is None and not self._is_full:
            self._answer(self._waiting.popleft())
        if not self._waiting and not self._is_full:
            self._resume_reading()

    def _write(self, request: Request, answer: Answer) -> None:
        if self._transport is None:
            return
        if answer.status >= _FAILED:
            answer = self._application.failed(request, answer)
        keep_alive = request.keep_alive and not self._is_stopping
        self.last_heard = monotonic()
        self._transport.write(
            encoded(answer, keep_alive=keep_alive, with_body=request.method != "HEAD")
        )
        if not keep_alive:
            self._waiting.clear()
            self.close()

    def _refuse(self, error: ShipwayError) -> None:
        """Answers what cannot be read, and closes: where the next request begins is not known."""
        path = self._request.path if self._request is not None else ""
        request = Request("", b"", {})
        request.keep_alive = False
        if self._task is None:
            self._write(request, self._application.refuse(error, path))
        else:
            self.stop()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is over the endpoint's limit of {limit} bytes.",
        next_step="Send fewer rows, or raise `limits.max_body_bytes` of the endpoint.",
        limit_bytes=limit,
    )


async def serve(
    application: Application,
    listening: socket.socket,
    stopping: asyncio.Event,
    *,
    drain_s: float,
    tls: ssl.SSLContext | None = None,
    crowd: Crowd[Connection] | None = None,
) -> None:
    """Serves on a bound socket until `stopping`, then answers what it has, for `drain_s` at most."""
    crowd = Crowd() if crowd is None else crowd
    loop = asyncio.get_running_loop()
    acceptor = Acceptor(listening, lambda: Connection(application, crowd), tls=tls)
    sweeping = asyncio.ensure_future(_sweep(crowd))
    await stopping.wait()
    await acceptor.close()
    sweeping.cancel()
    until = loop.time() + drain_s
    for connection in crowd:
        connection.stop()
    while len(crowd) and loop.time() < until:  # noqa: ASYNC110 - ends with the last of many
        await asyncio.sleep(0.02)
    for connection in crowd:
        connection.close()


async def _sweep(crowd: Crowd[Connection]) -> None:
    """Closes the connections of callers that are too slow or forgotten, so that they cost nothing."""
    while True:
        await asyncio.sleep(crowd.patience.look_every_s)
        now = monotonic()
        for connection in crowd:
            connection.look(now)
