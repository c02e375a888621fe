"""HTTP/1.1 for the gateway: bytes to requests, answers to bytes, as little in between as can be.

A server for one kind of application: it reads whole bodies up to a limit that depends on the path,
and gives whole answers. An answer that is known at once is written in the callback that completed
the request: no task, no second write. Parsing is httptools' (llhttp).

Bounded: the size of a head and of a body, requests waiting on one connection, the time a connection
may be silent in the middle of a request or between two. A caller that goes away cancels its request.
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
from shipway.tls.peers import peer_of
from shipway.wire.codec import Answer

HEAD_LIMIT_BYTES = 64 * 1024
IDLE_S = 75.0
"""A connection silent for so long is closed, whether or not a request has begun."""

SWEEP_EVERY_S = 5.0
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

    def __init__(self, application: Application, connections: set[Connection]) -> None:
        self._application = application
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._source = ""
        self._peer = ""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_size = 0
        self._unfinished = 0
        self._request: Request | None = None
        self._chunks: list[bytes] = []
        self._body_size = 0
        self._limit = 0
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[Answer] | None = None
        self._is_stopping = False
        self._is_full = False
        self.last_heard = monotonic()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._peer = peer_of(transport)
        self._connections.add(self)
        self._source = source_of(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: nobody waits for the answer any more."""
        self._connections.discard(self)
        self._transport = None
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
        self._unfinished += len(data)
        try:
            self._parser.feed_data(data)
            # The parser keeps a header to itself until it is complete.
            if self._request is None and self._unfinished > HEAD_LIMIT_BYTES:
                raise _head_too_large()
        except InvalidRequest as exc:
            self._refuse(exc)
        except httptools.HttpParserUpgrade:
            self._refuse(InvalidRequest("The gateway speaks plain HTTP/1.1 here."))
        except httptools.HttpParserCallbackError as exc:
            cause = exc.__context__
            self._refuse(
                cause if isinstance(cause, ShipwayError) else InvalidRequest("Malformed HTTP.")
            )
        except httptools.HttpParserError as exc:
            self._refuse(InvalidRequest(f"The request is not HTTP: {exc}."))

    def on_url(self, url: bytes) -> None:
        """Called by the parser, possibly with parts."""
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers[name.lower()] = value
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Called by the parser: the request is known but for its body."""
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, self._target, self._headers, peer=self._peer)
        request.keep_alive = self._parser.should_keep_alive()
        request.source = self._source
        self._target, self._headers, self._head_size = b"", {}, 0
        self._unfinished = 0
        self._request = request
        self._limit = self._application.body_limit(request)
        announced = request.headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limit:
            raise _too_large(self._limit)
        if request.headers.get(b"expect", b"").lower() == b"100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Called by the parser, with a part."""
        self._body_size += len(body)
        if self._body_size > self._limit:
            raise _too_large(self._limit)
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser: answer now, or after those before it."""
        request, chunks = self._request, self._chunks
        if request is None:
            return
        request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._request, self._chunks, self._body_size = None, [], 0
        self._unfinished = 0
        if self._task is None and not self._waiting and not self._is_full:
            self._answer(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) >= MAX_PIPELINED and self._transport is not None:
                self._transport.pause_reading()

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
            raise _head_too_large()

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


def _head_too_large() -> InvalidRequest:
    return InvalidRequest(f"The request's head is over {HEAD_LIMIT_BYTES} bytes.")


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
) -> None:
    """Serves on a bound socket until `stopping`, then answers what it has, for `drain_s` at most."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    acceptor = Acceptor(listening, lambda: Connection(application, connections), tls=tls)
    sweeping = asyncio.ensure_future(_sweep(connections))
    await stopping.wait()
    await acceptor.close()
    sweeping.cancel()
    until = loop.time() + drain_s
    for connection in list(connections):
        connection.stop()
    while connections and loop.time() < until:  # noqa: ASYNC110 - ends with the last of many
        await asyncio.sleep(0.02)
    for connection in list(connections):
        connection.close()


async def _sweep(connections: set[Connection]) -> None:
    """Closes connections that fell silent, so that slow or forgotten callers cost nothing."""
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        oldest = monotonic() - IDLE_S
        for connection in list(connections):
            if connection.last_heard < oldest and not connection.is_busy:
                connection.drop()
