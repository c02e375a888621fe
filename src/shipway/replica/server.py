"""The replica's end of the stream: frames in, batches out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from socket import AF_UNIX, socket
from typing import Any, cast

from shipway.core.errors import InvalidRequest, ShipwayError
from shipway.replica.model import Job
from shipway.replica.worker import Worker, failure_frame
from shipway.wire.frames import Frame, FrameReader, Kind, decode_request, encode_plain

_KEEP_PATH: Mapping[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""The path is not asyncio's to remove: a confined process may not."""

DRAIN_S = 30.0
"""How long a stopping replica goes on answering what it has accepted: an endpoint's usual deadline."""

FLUSH_S = 2.0
"""How long a stopping replica waits for its peers to take its last answers."""


class Connection(asyncio.Protocol):
    """One gateway's connection: frames in, jobs to the worker, answers out as they come."""

    def __init__(self, worker: Worker, connections: set[Connection]) -> None:
        self._worker = worker
        self._connections = connections
        self._reader = FrameReader()
        self._jobs: dict[int, Job] = {}
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
        for job in self._jobs.values():
            self._worker.cancel(job)
        self._jobs.clear()

    def close(self) -> None:
        """Ends the connection after what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def send(self, data: bytes) -> None:
        """See Peer."""
        if self._transport is not None:
            self._transport.write(data)

    def answered(self, stream: int) -> None:
        """See Peer."""
        self._jobs.pop(stream, None)

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.INFER:
                self._infer(frame)
            case Kind.CANCEL:
                job = self._jobs.pop(frame.stream, None)
                if job is not None:
                    self._worker.cancel(job)
            case Kind.PING:
                self.send(encode_plain(Kind.PONG, frame.stream, self._worker.state()))
            case _:
                raise InvalidRequest(f"A gateway does not send {frame.kind.name} frames.")

    def _infer(self, frame: Frame) -> None:
        stream = frame.stream
        try:
            inputs, timeout_ms, trace = decode_request(frame.body)
            timeout_s = timeout_ms / 1000 if timeout_ms else inf
            self._jobs[stream] = self._worker.submit(
                self, stream, inputs, timeout_s=timeout_s, trace=trace
            )
        except ShipwayError as exc:
            self.send(failure_frame(stream, exc))


async def serve(worker: Worker, listener: socket, stopping: asyncio.Event) -> None:
    """Answers on the socket, which listens already, until `stopping`; then drains and closes."""
    connections: set[Connection] = set()
    worker.start(stopping.set)  # a replica without its worker must end
    server = await _server(lambda: Connection(worker, connections), listener)
    await stopping.wait()
    server.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(worker.drained(), DRAIN_S)
    for connection in list(connections):
        connection.close()
    await _gone(connections)
    worker.close()


async def _server(made: Callable[[], Connection], listener: socket) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if listener.family == AF_UNIX:
        return await loop.create_unix_server(made, sock=listener, **_KEEP_PATH)
    return await loop.create_server(made, sock=listener)


async def _gone(connections: set[Connection]) -> None:
    """Returns once what was written has left: the end of the loop would throw it away."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_S):
            while connections:  # noqa: ASYNC110 - ends with the last of many
                await asyncio.sleep(0.01)
