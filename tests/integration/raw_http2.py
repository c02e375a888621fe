"""A gateway's gRPC door over a service that echoes, and callers that write frames of their own."""

import asyncio
import contextlib
import socket
import struct

import hpack

from shipway.gateway.grpc import frames
from shipway.gateway.grpc.call import Form, Method, Reply
from shipway.gateway.grpc.frames import Fault, Kind
from shipway.gateway.grpc.server import serve

LIMIT = 3_000_000


def message(data, *, compressed=0):
    return struct.pack(">BI", compressed, len(data)) + data


class Echo:
    """`/e/Now` echoes; `/e/Slow` when it is released; `/e/Big` gives megabytes; `/e/Stream`; `/e/Watch`."""

    def __init__(self):
        self.released = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.timeouts = []
        self.started = 0
        self.state = b"one"
        self.methods = {
            b"/e/Now": Method(self._now),
            b"/e/Slow": Method(self._later),
            b"/e/Big": Method(lambda data, timeout_s, metadata: Reply.carrying(b"x" * 200_000)),
            b"/e/Stream": Method(self._either, Form.STREAM),
            b"/e/Watch": Method(
                lambda data, timeout_s, metadata: Reply.carrying(self.state), Form.WATCH
            ),
        }

    def failed(self, metadata, reply):
        return reply

    def message_limit(self):
        return LIMIT

    def _now(self, data, timeout_s, metadata):
        self.timeouts.append(timeout_s)
        return Reply.carrying(data)

    def _later(self, data, timeout_s, metadata):
        self.started += 1
        return asyncio.ensure_future(self._wait(data))

    def _either(self, data, timeout_s, metadata):
        return (
            self._later(data, timeout_s, metadata)
            if data.startswith(b"slow")
            else Reply.carrying(data)
        )

    async def _wait(self, data):
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Reply.carrying(data)


class Caller:
    """A raw HTTP/2 connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.next_id = 1
        self.window = 0
        self.settings = {}

    def send(self, *parts):
        self.writer.write(b"".join(parts))

    def greet(self, *settings):
        self.send(frames.PREFACE, frames.settings(settings))
        return self

    def block(self, path, **more):
        headers = {
            ":method": "POST", ":scheme": "http", ":path": path, ":authority": "here",
            "content-type": "application/grpc", "te": "trailers",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }  # fmt: skip
        return self.encoder.encode(headers)

    def open(self, path, **more):
        number, self.next_id = self.next_id, self.next_id + 2
        block = self.block(path, **more)
        self.send(frames.frame(Kind.HEADERS, frames.END_HEADERS, number, block))
        return number

    def data(self, number, data, *, last=True):
        for at in range(0, max(1, len(data)), 16384):
            part = data[at : at + 16384]
            flags = frames.END_STREAM if last and at + 16384 >= len(data) else 0
            self.send(frames.frame(Kind.DATA, flags, number, part))

    def call(self, path, data=b"hello", **more):
        number = self.open(path, **more)
        self.data(number, message(data))
        return number

    async def frame(self):
        async with asyncio.timeout(10):
            high, low, kind, flags, number = frames.FRAME_HEAD.unpack(
                await self.reader.readexactly(9)
            )
            return Kind(kind), flags, number, await self.reader.readexactly(high << 16 | low)

    async def until(self, wanted):
        """The next frame of that kind; settings and windows on the way are passed over."""
        while True:
            kind, flags, number, payload = await self.frame()
            if kind == wanted:
                return flags, number, payload
            assert kind in (Kind.SETTINGS, Kind.WINDOW_UPDATE, Kind.PING, Kind.GOAWAY), kind

    async def until_data(self):
        """The next DATA frame, whatever is on the way."""
        while (await self.frame())[0] != Kind.DATA:
            pass

    async def answer(self, number):
        """Status of HTTP and gRPC, and the bytes of one call; frames of other calls are dropped."""
        headers, data = {}, b""
        while True:
            kind, flags, found, payload = await self.frame()
            if kind == Kind.HEADERS:
                decoded = dict(self.decoder.decode(payload))
            if found != number:
                continue
            if kind == Kind.HEADERS:
                headers |= decoded
            elif kind == Kind.DATA:
                data += payload
            elif kind == Kind.RST_STREAM:
                return f"reset {Fault(frames.uint(payload)).name}", headers, data
            if flags & frames.END_STREAM and kind in (Kind.HEADERS, Kind.DATA):
                return int(headers.get("grpc-status", -1)), headers, data

    async def goaway(self):
        _, _, payload = await self.until(Kind.GOAWAY)
        return Fault(struct.unpack(">II", payload[:8])[1])


@contextlib.asynccontextmanager
async def grpc_door(crowd=None):
    service, stopping = Echo(), asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    serving = asyncio.ensure_future(serve(service, listening, stopping, drain_s=5, crowd=crowd))
    callers = []

    async def caller(*settings, greets=True):
        made = Caller(*await asyncio.open_connection("127.0.0.1", port))
        callers.append(made)
        return made.greet(*settings) if greets else made

    caller.service, caller.stopping, caller.serving = service, stopping, serving
    try:
        yield caller
    finally:
        stopping.set()
        service.released.set()
        for made in callers:
            made.writer.close()
        async with asyncio.timeout(10):
            await serving
        for made in callers:
            with contextlib.suppress(ConnectionError):
                await made.writer.wait_closed()


async def until(claim):
    async with asyncio.timeout(10):
        while not claim():  # noqa: ASYNC110 - what is waited for is in other tasks
            await asyncio.sleep(0.01)
