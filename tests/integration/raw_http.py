"""A gateway's HTTP door over an application that echoes, and callers that write bytes of their own."""

import asyncio
import contextlib
import socket

from shipway.core.errors import ShipwayError
from shipway.gateway.crowd import Crowd
from shipway.gateway.http import Request, serve
from shipway.wire.codec import Answer
from shipway.wire.problems import status_of

TEXT = ((b"content-type", b"text/plain"),)


class Echo:
    """Answers with method, path and body; `/slow` after it is released, `/big` and `/huge` with megabytes."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.started = 0
        self.requests: list[Request] = []

    def handle(self, request: Request) -> Answer | asyncio.Task[Answer]:
        self.started += 1
        self.requests.append(request)
        if request.path == "/slow":
            return asyncio.ensure_future(self._slow(request))
        if request.path == "/big":
            return Answer(200, b"x" * 4_000_000, TEXT)
        if request.path == "/huge":
            return Answer(200, b"x" * 16_000_000, TEXT)
        return Answer(200, f"{request.method} {request.path} ".encode() + request.body, TEXT)

    async def _slow(self, request: Request) -> Answer:
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Answer(200, b"slow " + request.body, TEXT)

    def failed(self, request: Request, answer: Answer) -> Answer:
        return answer

    def body_limit(self, request: Request) -> int:
        return 1000

    def refuse(self, error: ShipwayError, path: str) -> Answer:
        return Answer(status_of(error), str(error).encode(), TEXT)


class Caller:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, has_body: bool = True) -> tuple[int, dict[bytes, bytes], bytes]:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
            size = int(headers.get(b"content-length", 0)) if has_body else 0
            return int(lines[0].split()[1]), headers, await self.reader.readexactly(size)

    async def is_closed(self) -> bool:
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read() == b""
        return True


@contextlib.asynccontextmanager
async def serving(drain_s: float = 5.0, crowd: Crowd | None = None):
    application, stopping = Echo(), asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    task = asyncio.ensure_future(
        serve(application, listening, stopping, drain_s=drain_s, crowd=crowd)
    )
    callers: list[Caller] = []

    async def call(data: bytes = b"") -> Caller:
        caller = Caller(*await asyncio.open_connection(*address))
        caller.send(data)
        callers.append(caller)
        return caller

    try:
        yield application, call, stopping, task
    finally:
        stopping.set()
        application.released.set()
        for caller in callers:
            caller.writer.close()
            with contextlib.suppress(ConnectionError):
                await caller.writer.wait_closed()
        await task


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"host: a", b"content-length: %d" % len(body)]
    return b"\r\n".join([*lines, *headers, b"", b""]) + body
