"""What a gRPC service is to the server: methods by path, and the replies they give."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Protocol

from shipway.core.errors import ShipwayError
from shipway.gateway.grpc.frames import header_block
from shipway.gateway.grpc.status import Code, percent_encoded, trailers_of
from shipway.wire.codec import Headers
from shipway.wire.problems import status_of
from shipway.wire.request_ids import told_id

MESSAGE_HEAD = struct.Struct(">BI")
"""What precedes each message: whether it is compressed, and its length."""

HEADERS = header_block(((b"content-type", b"application/grpc"),), status=200)
_FAILED = 500
_OK = (b"grpc-status", b"0")
OK_TRAILERS = header_block((_OK,))


class Reply:
    """One message with its head, or none and the trailers of the failure instead.

    `failure` is what was our fault, None where nothing was; `request_id` is what its caller was told
    to name it by, `trace_id` of the trace that it belongs to.
    """

    __slots__ = ("failure", "message", "request_id", "trace_id", "trailers")

    def __init__(self, message: bytes, trailers: bytes = OK_TRAILERS) -> None:
        self.message = message
        self.trailers = trailers
        self.failure: ShipwayError | None = None
        self.request_id = ""
        self.trace_id = b""

    def marked(self, marks: Headers) -> Reply:
        """The same with these trailers behind its own."""
        reply = Reply(self.message, self.trailers + header_block(marks))
        if self.failure is not None:
            reply.failure, reply.trace_id = self.failure, self.trace_id
            reply.request_id = told_id(marks) or self.request_id
        return reply

    @classmethod
    def of(cls, message: Any) -> Reply:
        """The reply that carries a protobuf message."""
        return cls.carrying(message.SerializeToString())

    @classmethod
    def carrying(cls, data: bytes, marks: Headers = ()) -> Reply:
        """The reply that carries a message that is serialized already; marks become trailers."""
        trailers = header_block((_OK, *marks)) if marks else OK_TRAILERS
        return cls(MESSAGE_HEAD.pack(0, len(data)) + data, trailers)

    @classmethod
    def refusing(cls, error: ShipwayError) -> Reply:
        """The reply that ends a call with an error."""
        return cls(b"", header_block(trailers_of(error))).about(error)

    def about(self, error: ShipwayError) -> Reply:
        """The same, which tells its caller of an error."""
        if status_of(error) >= _FAILED:
            self.failure = error
        return self

    @classmethod
    def ending(cls, code: Code, message: str, *extra: tuple[bytes, bytes]) -> Reply:
        """The reply that ends a call with what only gRPC has a code for."""
        status = (b"grpc-status", b"%d" % code)
        return cls(b"", header_block((status, (b"grpc-message", percent_encoded(message)), *extra)))


class Form(Enum):
    """How many messages a call has."""

    UNARY = "unary"
    """One request, one reply."""

    STREAM = "stream"
    """Requests and replies, a reply to each request and in their order."""

    WATCH = "watch"
    """One request; a reply now, and one each time it changes."""


class Metadata(dict[bytes, bytes]):
    """A call's headers, their names in lower case, and whom the connection is with.

    `source` and `peer` are as in `wire.callers.Sent`, which this is.
    """

    body = b""
    size_bytes = 0

    def __init__(self, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(headers)
        self.source = ""
        self.peer = ""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The headers, by name."""
        return self


Answering = Callable[[bytes, float | None, Metadata], "Reply | asyncio.Task[Reply]"]


class Method:
    """One method. `answer(message, timeout_s, metadata)` gives a reply, or the task that makes it.

    It raises nothing. `timeout_s` is how long the caller still waits, None when it did not say.
    `metadata` are the call's headers. For a WATCH it is called again and again, and never gives a task.
    """

    __slots__ = ("answer", "form")

    def __init__(self, answer: Answering, form: Form = Form.UNARY) -> None:
        self.answer = answer
        self.form = form


class Service(Protocol):
    """What the server serves."""

    @property
    def methods(self) -> Mapping[bytes, Method]:
        """The methods by path (`/package.Service/Method`)."""
        ...

    def message_limit(self) -> int:
        """How many bytes any message may have now."""
        ...

    def failed(self, metadata: Metadata, reply: Reply) -> Reply:
        """What is sent in place of a reply that has a `failure`. Raises nothing."""
        ...
