"""What a dialect is: bytes to a request, a response to bytes. No dialect knows another.

A codec is stateless and pure; the gateway's doors (HTTP, gRPC) hold one instance of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from shipway.core.errors import ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature

Headers = tuple[tuple[bytes, bytes], ...]
JSON_ONLY: Headers = ((b"content-type", b"application/json"),)
"""The headers of an answer that is JSON and nothing else."""


def marked(headers: Headers, response: InferenceResponse) -> Headers:
    """An answer's headers, with the marks of the response behind them."""
    return headers + response.marks if response.marks else headers


R = TypeVar("R", contravariant=True)
A = TypeVar("A", covariant=True)


class Answer:
    """One complete HTTP answer. `Content-Length` is added by the server."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Headers) -> None:
        self.status = status
        self.body = body
        self.headers = headers


class Message(Protocol):
    """What an HTTP codec reads of a request. Header names are in lower case."""

    @property
    def body(self) -> bytes:
        """The whole body."""
        ...

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The headers, by name."""
        ...

    @property
    def query(self) -> bytes:
        """What follows the question mark of the target."""
        ...


class Codec(Protocol[R, A]):
    """One dialect: `R` is what arrives (a `Message`, a protobuf message), `A` what is sent back."""

    def decode(self, message: R, signature: Signature) -> InferenceRequest:
        """The request in a message, for a model of that signature.

        Names, shapes and dtypes are not compared with the signature here: the validator does that.

        Raises:
            InvalidRequest, UnsupportedMediaType: the message is not of the dialect.
        """
        ...

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> A:
        """The answer that carries a response, to the request that `decode` gave."""
        ...

    def refuse(self, error: ShipwayError) -> A:
        """The answer that carries an error, in the dialect's own shape."""
        ...
