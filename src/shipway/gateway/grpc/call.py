"""What a gRPC service is to the server: methods by path, and the replies they give."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol

from shipway.core.errors import ShipwayError
from shipway.gateway.grpc.frames import header_block
from shipway.gateway.grpc.status import Code, percent_encoded, trailers_of
from shipway.wire.codec import Headers

MESSAGE_HEAD = struct.Struct(">BI")
"""What precedes each message: whether it is compressed, and its length."""

HEADERS = header_block(((b"content-type", b"application/grpc"),), status=200)
_OK = (b"grpc-status", b"0")
OK_TRAILERS = header_block((_OK,))


class Reply:
    """One message with its head, or none and the trailers of the failure instead."""

    __slots__ = ("message", "trailers")

    def __init__(self, message: bytes, trailers: bytes = OK_TRAILERS) -> None:
        self.message = message
        self.trailers = trailers

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
        return cls(b"", header_block(trailers_of(error)))

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
    """A call's headers, their names in lower case, and beside them what the connection says.

    `peer` is the identity in the certificate that the caller showed; empty when it showed none.
    """

    peer: str = ""


Answering = Callable[[bytes, float | None, Metadata], "Reply | asyncio.Task[Reply]"]


class Method:
    """One method. `answer(message, timeout_s, metadata)` gives a reply, or the task that makes it.

    It raises nothing. `timeout_s` is how long the caller still waits, None when it did not say.
    For a WATCH it is called again and again, and never gives a task.
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
