"""The replica's end of the stream: frames in, batches out."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import cast

from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.replica.worker import Worker
from shipway.wire.frames import (
    Failure,
    Frame,
    FrameReader,
    Kind,
    decode_tensors,
    encode_plain,
    head_of,
)

DRAIN_S = 30.0
"""How long a stopping replica goes on answering what it has accepted: an endpoint's usual deadline."""

FLUSH_S = 2.0
"""How long a stopping replica waits for its peers to take its last answers."""

_NO_DEADLINE_S = 3600.0


class Connection(asyncio.Protocol):
    """One gateway's connection. Requests run concurrently; answers go back as they come."""

    def __init__(self, worker: Worker, connections: set[Connection]) -> None:
        self._worker = worker
        self._connections = connections
        self._reader = FrameReader()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio; a malformed frame ends the connection."""
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except InvalidRequest:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: nobody waits for these answers any more."""
        self._connections.discard(self)
        self._transport = None
        for task in self._running.values():
            task.cancel()

    def close(self) -> None:
        """Ends the connection after what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.INFER:
                task = asyncio.ensure_future(self._infer(frame))
                self._running[frame.stream] = task
            case Kind.CANCEL:
                running = self._running.get(frame.stream)
                if running is not None:
                    running.cancel()
            case Kind.PING:
                self._write([encode_plain(Kind.PONG, frame.stream, self._worker.state())])
            case _:
                raise InvalidRequest(f"A gateway does not send {frame.kind.name} frames.")

    async def _infer(self, frame: Frame) -> None:
        try:
            inputs, timeout_ms = decode_tensors(frame.body)
            timeout_s = timeout_ms / 1000 if timeout_ms else _NO_DEADLINE_S
            body = await self._worker.infer(inputs, timeout_s=timeout_s)
            self._write([head_of(Kind.RESULT, frame.stream, len(body)), body])
        except ShipwayError as exc:
            self._fail(frame.stream, exc)
        finally:
            self._running.pop(frame.stream, None)

    def _fail(self, stream: int, error: ShipwayError) -> None:
        self._write([encode_plain(Kind.FAIL, stream, Failure.of(error))])

    def _write(self, buffers: list[bytes | memoryview] | list[bytes]) -> None:
        if self._transport is not None:
            self._transport.writelines(buffers)


async def serve(worker: Worker, address: str, stopping: asyncio.Event) -> None:
    """Listens at `unix:/path` or `tcp:host:port` until `stopping`, then drains and closes."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    scheme, _, place = address.partition(":")
    if scheme == "unix":
        _remove(place)
        server = await loop.create_unix_server(lambda: Connection(worker, connections), place)
    else:
        host, _, port = place.rpartition(":")
        server = await loop.create_server(lambda: Connection(worker, connections), host, int(port))
    working = asyncio.ensure_future(worker.run())
    working.add_done_callback(lambda _: stopping.set())  # a replica without its worker must end
    await stopping.wait()
    server.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(worker.drained(), DRAIN_S)
    working.cancel()
    for connection in list(connections):
        connection.close()
    await _gone(connections)
    worker.close()
    if scheme == "unix":
        _remove(place)


async def _gone(connections: set[Connection]) -> None:
    """Returns once what was written has left: the end of the loop would throw it away."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_S):
            while connections:  # noqa: ASYNC110 - ends with the last of many
                await asyncio.sleep(0.01)


def _remove(socket: str) -> None:
    Path(socket).unlink(missing_ok=True)
