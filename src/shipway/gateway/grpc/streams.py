"""One call on a connection: what has arrived of it, and what is still to be sent."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from shipway.core.errors import BodyTooLarge, InvalidRequest
from shipway.gateway.grpc.call import HEADERS, MESSAGE_HEAD, Form, Reply

if TYPE_CHECKING:
    from shipway.gateway.grpc.heads import Head

ALWAYS_READ_BYTES = 1024 * 1024
"""A message of this size is read whatever the limits are, to be refused with its endpoint's name."""

_WBITS = {b"gzip": 31, b"deflate": 15}
_MOST_AT_ONCE = 64
"""Requests of one STREAM that are being answered; later ones wait in its window."""


class Stream:
    """One call.

    `room` is how many bytes the peer takes, `unread` how many of its bytes were not granted again.
    `until` is the deadline by the loop's clock. `waiting` holds the replies in the order of their
    requests, made or in the making. `final` are the trailers that end a STREAM early. `held` of the
    buffer is counted with the crowd. Since `waits_since` it waits for the peer, and `moved` bytes came
    or went meanwhile.
    """

    __slots__ = (
        "buffer",
        "final",
        "has_headers",
        "head",
        "headers",
        "held",
        "id",
        "is_complete",
        "moved",
        "outbox",
        "room",
        "timer",
        "touched",
        "trailers",
        "unread",
        "until",
        "waiting",
        "waits_since",
        "watched",
    )

    def __init__(self, stream_id: int, head: Head, room: int) -> None:
        self.id = stream_id
        self.head = head
        self.room = room
        self.headers = HEADERS
        self.until: float | None = None
        self.touched = self.waits_since = 0.0
        self.held = self.moved = 0
        self.buffer = bytearray()
        self.is_complete = False
        self.unread = 0
        self.waiting: deque[Reply | asyncio.Task[Reply]] = deque()
        self.outbox: deque[memoryview] = deque()
        self.trailers: bytes | None = None
        self.final: bytes | None = None
        self.has_headers = False
        self.timer: asyncio.TimerHandle | None = None
        self.watched: tuple[bytes, bytes] | None = None

    @property
    def is_full(self) -> bool:
        """Whether so many requests or replies wait that no more are looked at."""
        return len(self.waiting) >= _MOST_AT_ONCE or len(self.outbox) >= _MOST_AT_ONCE

    @property
    def waits_for_peer(self) -> bool:
        """Whether the peer has to send, or to take, before anything goes on."""
        if self.outbox:
            return True
        if self.is_complete or len(self.waiting) >= _MOST_AT_ONCE:
            return False
        return bool(self.buffer) or self.head.form is not Form.STREAM

    def require_fitting(self, limit: Callable[[], int]) -> None:
        """Refuses a message that announces more bytes than it may have, before they are here.

        Raises:
            BodyTooLarge: it does.
        """
        if len(self.buffer) >= MESSAGE_HEAD.size:
            length = MESSAGE_HEAD.unpack_from(self.buffer)[1]
            if length > ALWAYS_READ_BYTES and length > limit():
                raise _too_large(limit())

    def take_message(self, limit: Callable[[], int]) -> bytes | None:
        """The next whole message of the buffer, decompressed; None while there is none.

        Raises:
            BodyTooLarge: it is over the limit, as announced or decompressed.
            InvalidRequest: it cannot be decompressed.
        """
        self.require_fitting(limit)
        buffer = self.buffer
        if len(buffer) < MESSAGE_HEAD.size:
            return None
        compressed, length = MESSAGE_HEAD.unpack_from(buffer)
        end = MESSAGE_HEAD.size + length
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            message = bytes(view[MESSAGE_HEAD.size : end])
        del buffer[:end]
        return _inflated(message, self.head.encoding, limit()) if compressed else message

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if self.timer is not None:
            self.timer.cancel()
        for reply in self.waiting:
            if isinstance(reply, asyncio.Task):
                reply.cancel()


def _inflated(message: bytes, encoding: bytes, limit: int) -> bytes:
    wbits = _WBITS.get(encoding)
    if wbits is None:
        raise InvalidRequest("A message is marked as compressed, and `grpc-encoding` names no way.")
    inflater = zlib.decompressobj(wbits)
    try:
        data = inflater.decompress(message, limit + 1)
    except zlib.error as exc:
        raise InvalidRequest(f"A message cannot be decompressed: {exc}.") from exc
    if len(data) > limit:
        raise _too_large(limit)
    if not inflater.eof:
        raise InvalidRequest("A compressed message ends too early.")
    return data


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The message is over the limit of {limit} bytes.",
        next_step="Send fewer rows, or raise `limits.max_body_bytes` of the endpoint.",
        limit_bytes=limit,
    )
