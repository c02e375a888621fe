"""The connections of the control API: uvicorn's, with the bounds that it does not have itself.

uvicorn takes heads of any size, and waits for the rest of a request for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools

from shipway.api.peers import PeerProtocol
from shipway.core.arrival import Patience
from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.wire.head import (
    HEAD_LIMIT_BYTES,
    MAX_FIELDS,
    TARGET_LIMIT_BYTES,
    head_too_large,
    joined,
    plain_head,
    require_sound,
    target_too_long,
)
from shipway.wire.problems import CONTENT_TYPE, problem_of


class BoundedConnection(PeerProtocol):
    """One connection. Heads are bounded and sound, and requests arrive in time or not at all."""

    patience = Patience()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._known: dict[bytes, bytes] = {}
        self._is_head = True
        self._fields = 0
        self._unfinished = 0
        self._began: float | None = None
        self._arrived = 0
        self._looking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own is as narrow
        """Called by asyncio."""
        super().connection_made(transport)
        self._begin()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._began is None:
            self._begin()
        self._arrived += len(data)
        self._unfinished += len(data)
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._fed(data)
            if self._unfinished > HEAD_LIMIT_BYTES:
                raise head_too_large()
        except ShipwayError as exc:
            self._refuse(exc)
        except httptools.HttpParserCallbackError as exc:
            cause = exc.__context__
            self._refuse(cause if isinstance(cause, ShipwayError) else _malformed())
        except httptools.HttpParserError:
            self._refuse(_malformed())

    def _fed(self, data: bytes) -> bytes:
        """Feeds the parser; gives what is still to be fed: a head that wished to upgrade, without that wish."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            line = b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)
            self.parser = httptools.HttpRequestParser(self)
            return plain_head(line, self._known) + data[exc.args[0] :]
        return b""

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._known, self._is_head, self._fields = {}, True, 0
        if self._began is None:
            self._begin()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Called by the parser, possibly with parts."""
        super().on_url(url)
        if len(self.url) > TARGET_LIMIT_BYTES:
            raise target_too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, with trailers too; those are no headers."""
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise head_too_large()
        if self._is_head:
            name = name.lower()
            known = self._known.get(name)
            self._known[name] = value if known is None else joined(name, known, value)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        method = self.parser.get_method().decode("latin-1")
        require_sound(method, self.parser.get_http_version(), self._known)
        if self.parser.should_upgrade():
            return
        self._is_head, self._fields, self._unfinished = False, 0, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser, with a part."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._is_head:
            return  # a wish to upgrade, whose head is read again
        self._began = None
        self._unfinished = 0
        super().on_message_complete()

    def _begin(self) -> None:
        self._began, self._arrived = self.loop.time(), 0

    def _look(self) -> None:
        """Closes the connection when its request should be further by now."""
        now = self.loop.time()
        if self.flow.read_paused:
            self._begin()  # it is we who do not read
        elif self._began is not None and self.patience.is_too_slow(
            elapsed_s=now - self._began, received_bytes=self._arrived
        ):
            self.transport.abort()
            return
        self._looking = self.loop.call_later(self.patience.look_every_s, self._look)

    def _refuse(self, error: ShipwayError) -> None:
        """Answers what cannot be read, unless an answer is under way already, and closes."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            problem = problem_of(error)
            line = f"HTTP/1.1 {problem.status} Refused\r\ncontent-type: {CONTENT_TYPE}\r\n"
            size = f"content-length: {len(problem.body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(line.encode() + size.encode() + problem.body)
        self.transport.close()


def _malformed() -> InvalidRequest:
    return InvalidRequest("The request is not HTTP/1.1.")
