"""One HTTP call as a value: what to send, and how to read the answer. No I/O.

`Client` and `AsyncClient` differ only in how they carry a `Call` over the network. Work that takes
several calls is a `Flow`: a generator that yields steps and returns its result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec

from shipway.core.errors import Bug, ShipwayError

T = TypeVar("T")


class Plane(StrEnum):
    """Which server a call goes to."""

    CONTROL = "control"
    GATEWAY = "gateway"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request, and the function that reads a good (2xx) answer to it.

    `body` is bytes, or a function that starts a fresh stream of chunks (uploads). `timeout_s` bounds
    each wait for the network, not the whole call. `accepts` are further statuses that `read` takes.
    """

    method: str
    path: str
    read: Callable[[Answer], T]
    plane: Plane = Plane.CONTROL
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes | Callable[[], Iterator[bytes]] = b""
    timeout_s: float = 30.0
    accepts: tuple[int, ...] = ()


class Pause(msgspec.Struct, frozen=True):
    """Wait a while before the next step."""

    seconds: float


class Work(msgspec.Struct, Generic[T], frozen=True):
    """Run a blocking function; its result is the answer to the step."""

    run: Callable[[], T]


Step = Call[Any] | Pause | Work[Any]
Flow = Generator[Step, Any, T]
"""Several steps; the driver sends back each step's result, or throws its error in."""


def one(call: Call[T]) -> Flow[T]:
    """The flow of a single call."""
    result: T = yield call
    return result


def reading(kind: Any) -> Callable[[Answer], Any]:
    """A reader of JSON bodies of that type.

    Raises (when called):
        Bug: the body is not of that type, so client and server are of different releases.
    """
    decoder = msgspec.json.Decoder(kind, strict=False)

    def read(answer: Answer) -> Any:
        try:
            return decoder.decode(answer.body)
        except msgspec.MsgspecError as exc:
            raise Bug(
                f"The server's answer cannot be read: {exc}.",
                next_step="Use the same release of Shipway for client and server.",
            ) from exc

    return read


class Run(Generic[T]):
    """A flow under way: take `step`, then `tell` or `fail`, until `step` is None and `result` is there."""

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.result: T
        self.step: Step | None = None
        self._proceed(lambda: next(flow))

    def tell(self, value: Any) -> None:
        """Gives the flow what came of the step."""
        self._proceed(lambda: self._flow.send(value))

    def fail(self, error: ShipwayError) -> None:
        """Raises the step's error inside the flow, which may handle it; raises it here otherwise."""
        self._proceed(lambda: self._flow.throw(error))

    def close(self) -> None:
        """Ends the flow where it stands, so that it cleans up. Calling it again does nothing."""
        self._flow.close()

    def _proceed(self, advance: Callable[[], Step]) -> None:
        self.step = None
        try:
            self.step = advance()
        except StopIteration as end:
            self.result = end.value
