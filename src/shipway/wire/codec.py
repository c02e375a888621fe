"""What a dialect is: bytes to a request, a response to bytes. No dialect knows another.

A codec is stateless and pure; the gateway's doors (HTTP, gRPC) hold one instance of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Signature

Headers = tuple[tuple[bytes, bytes], ...]
JSON_ONLY: Headers = ((b"content-type", b"application/json"),)
"""The headers of an answer that is JSON and nothing else."""

FALLBACK = b"x-shipway-fallback"
"""The mark that says what answered in place of the endpoint's own version."""

RESCUED = b"x-shipway-rescued"
"""The mark that says which version could not answer, so that the primary did."""

TIMEOUT = b"x-request-timeout-ms"
"""The header in which a caller says how long it waits."""

_MOST_DIGITS = 9


def marked(headers: Headers, response: InferenceResponse) -> Headers:
    """An answer's headers, with the marks of the response behind them."""
    return headers + response.marks if response.marks else headers


R = TypeVar("R", contravariant=True)
A = TypeVar("A", covariant=True)
Q = TypeVar("Q")
B = TypeVar("B")


class Answer:
    """One complete HTTP answer. `Content-Length` is added by the server.

    `trace_id` is of the trace that a failure belongs to, empty for none; it is for the log and not sent.
    """

    __slots__ = ("body", "headers", "status", "trace_id")

    def __init__(self, status: int, body: bytes, headers: Headers) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.trace_id = b""

    def marked(self, marks: Headers) -> Answer:
        """The same with these headers behind its own."""
        answer = Answer(self.status, self.body, self.headers + marks)
        answer.trace_id = self.trace_id
        return answer


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


def timeout_s_of(headers: Mapping[bytes, bytes]) -> float | None:
    """How long the caller waits, by its header `x-request-timeout-ms`; None when it did not say.

    Raises:
        InvalidRequest: the header is not a positive whole number of milliseconds.
    """
    given = headers.get(TIMEOUT)
    if given is None:
        return None
    if not given.isdigit() or len(given) > _MOST_DIGITS or not int(given):
        raise InvalidRequest(
            "The header `X-Request-Timeout-Ms` must be a positive whole number of milliseconds.",
            path="x-request-timeout-ms",
        )
    return int(given) / 1000


class Timed(Generic[Q, B]):
    """A dialect whose caller said beside the message how long it waits. A codec itself."""

    __slots__ = ("_codec", "_timeout_s")

    def __init__(self, codec: Codec[Q, B], timeout_s: float) -> None:
        self._codec = codec
        self._timeout_s = timeout_s

    def decode(self, message: Q, signature: Signature) -> InferenceRequest:
        """See Codec. The sooner deadline counts, when the message has one, too."""
        asked = self._codec.decode(message, signature)
        own_s = asked.timeout_s
        asked.timeout_s = self._timeout_s if own_s is None else min(own_s, self._timeout_s)
        return asked

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> B:
        """See Codec."""
        return self._codec.encode(response, asked)

    def refuse(self, error: ShipwayError) -> B:
        """See Codec."""
        return self._codec.refuse(error)
