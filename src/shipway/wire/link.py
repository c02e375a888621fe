"""The gateway's end of a replica's stream: many requests on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from shipway.core.errors import DependencyError, InvalidRequest, ReplicaLost, ShipwayError
from shipway.core.telemetry import Times
from shipway.core.tensors import Array
from shipway.wire.frames import (
    Frame,
    FrameReader,
    Kind,
    Pong,
    decode_failed,
    decode_pong,
    decode_result,
    encode_plain,
    encode_tensors,
)

CONNECT_TIMEOUT_S = 1.0
_MAX_STREAM = 2**32 - 1


class _Result(NamedTuple):
    outputs: dict[str, Array] | ShipwayError
    times: Times | None


class Link(asyncio.Protocol):
    """One connection to a replica. Made by `connect`; closed for good when the peer goes away.

    `outstanding` counts requests without an answer. `on_lost` is called once, when the connection
    has ended.
    """

    def __init__(self) -> None:
        self.on_lost: Callable[[], None] = _nothing
        self._reader = FrameReader()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next_stream = 0
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes | memoryview] = []
        self._loop = asyncio.get_running_loop()

    @property
    def outstanding(self) -> int:
        """How many requests wait for their answer on this link."""
        return len(self._waiting)

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def infer(
        self,
        inputs: Mapping[str, Array],
        *,
        timeout_s: float,
        trace: str = "",
        on_times: Callable[[Times], None] | None = None,
    ) -> dict[str, Array]:
        """The replica's outputs for these inputs.

        Cancelling it cancels the request in the replica. `trace` is for the replica's log; `on_times`
        is called before it returns or raises, when the replica says where the time went.

        Raises:
            TimeoutError: no answer within `timeout_s`.
            ReplicaLost: the connection ended first.
            ShipwayError: what the replica answered.
        """
        stream = self._stream()
        timeout_ms = max(1, int(timeout_s * 1000))
        frame = encode_tensors(Kind.INFER, stream, inputs, timeout_ms=timeout_ms, trace=trace)
        result = await self._ask(stream, frame, timeout_s)
        if not isinstance(result, _Result):
            raise ReplicaLost("The replica answered something else.")
        outputs, times = result.outputs, result.times
        if times is not None and on_times is not None:
            on_times(times)
        if isinstance(outputs, ShipwayError):
            raise outputs
        return outputs

    async def ping(self, *, timeout_s: float) -> Pong:
        """The replica's state.

        Raises:
            TimeoutError: no answer within `timeout_s`.
            ReplicaLost: the connection ended first.
        """
        stream = self._stream()
        pong = await self._ask(stream, [encode_plain(Kind.PING, stream)], timeout_s)
        if not isinstance(pong, Pong):
            raise ReplicaLost("The replica answered something else.")
        return pong

    def close(self) -> None:
        """Ends the connection; waiting requests fail with ReplicaLost."""
        if self._transport is not None:
            self._transport.abort()

    async def _ask(self, stream: int, buffers: list[bytes | memoryview], timeout_s: float) -> Any:
        if self._transport is None or self._transport.is_closing():
            raise ReplicaLost("The connection to the replica is closed.")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[stream] = future
        timer = self._loop.call_later(timeout_s, _expire, future)
        try:
            self._send(buffers)
            return await future
        except (asyncio.CancelledError, TimeoutError):
            if self.is_open:
                self._send([encode_plain(Kind.CANCEL, stream)])
            raise
        finally:
            timer.cancel()
            self._waiting.pop(stream, None)

    def _send(self, buffers: list[bytes | memoryview]) -> None:
        """Sends at once when nobody else waits, else together with what comes in the same moment.

        A write is a system call, and the dearest part of asking.
        """
        if self._unsent:
            self._unsent += buffers
        elif len(self._waiting) > 1:
            self._unsent = list(buffers)
            self._loop.call_soon(self._flush)
        elif self._transport is not None:
            self._transport.writelines(buffers)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.is_open and self._transport is not None:
            self._transport.writelines(unsent)

    def _stream(self) -> int:
        self._next_stream = self._next_stream % _MAX_STREAM + 1
        return self._next_stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        """Called by asyncio; a malformed frame ends the connection."""
        try:
            for frame in self._reader.feed(data):
                self._settle(frame)
        except InvalidRequest:
            self.close()

    def _settle(self, frame: Frame) -> None:
        future = self._waiting.get(frame.stream)
        if future is None or future.done():
            return
        match frame.kind:
            case Kind.RESULT:
                future.set_result(_Result(*decode_result(frame.body)))
            case Kind.FAIL:
                future.set_result(_Result(*decode_failed(frame.body)))
            case Kind.PONG:
                future.set_result(decode_pong(frame.body))
            case _:
                raise InvalidRequest(f"A replica does not send {frame.kind.name} frames.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: every waiting request fails now, none hangs."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ReplicaLost("The replica went away during the request."))
        self.on_lost()


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _nothing() -> None:
    """What happens by default when a link is lost."""


async def connect(address: str) -> Link:
    """A link to the replica at `unix:/path` or `tcp:host:port`.

    Raises:
        ReplicaLost: nothing answers there within a second.
    """
    loop = asyncio.get_running_loop()
    scheme, _, place = address.partition(":")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if scheme == "unix":
                _, link = await loop.create_unix_connection(Link, place)
            else:
                host, _, port = place.rpartition(":")
                _, link = await loop.create_connection(Link, host, int(port))
    except (OSError, TimeoutError) as exc:
        raise ReplicaLost(f"No replica answers at `{address}`.") from exc
    return link


async def ping(address: str, timeout_s: float) -> Pong:
    """One PING on a connection of its own.

    Raises:
        DependencyError: nothing answers there, or not in time.
    """
    link = await connect(address)
    try:
        return await link.ping(timeout_s=timeout_s)
    except TimeoutError as exc:
        raise DependencyError(f"The replica at `{address}` does not answer.") from exc
    finally:
        link.close()


__all__ = ["CONNECT_TIMEOUT_S", "Link", "connect", "ping"]
