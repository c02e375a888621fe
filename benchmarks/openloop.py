"""A load generator in a process of its own, which checks each answer against its own input.

    python benchmarks/openloop.py --port 8080 --endpoint slow=2 --mode open --rate 400 --seconds 10

Open loop: requests begin at fixed times whether or not earlier ones were answered, and latency
counts from the time at which a request was due, so that a slow server cannot slow its own test.
Closed loop: each of `--connections` sends the next request when it has the answer to the last.
`--endpoint NAME=FACTOR` may be given several times; an endpoint answers `y = x * FACTOR`.
One JSON object is printed at the end; times are of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter, deque
from contextlib import suppress
from itertools import count
from time import monotonic

import uvloop

GRACE_S = 5.0
"""A request unanswered so long after its deadline hangs."""


class Tally:
    """What became of the requests: latencies by status, and every failure with its time."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.latencies: dict[str, list[float]] = {}
        self.failures: list[tuple[float, float, str, str]] = []
        self.wrong = 0
        self.fallbacks = 0
        self.slowest: dict[int, float] = {}

    def note(self, due: float, outcome: str, body: bytes, endpoint: str) -> None:
        now = monotonic()
        self.statuses[outcome] += 1
        self.latencies.setdefault(outcome, []).append(now - due)
        second = int(now)
        self.slowest[second] = max(self.slowest.get(second, 0.0), now - due)
        if outcome != "200" and len(self.failures) < 100_000:
            words = body[-400:].decode(errors="replace") if body else ""
            self.failures.append((due, now, outcome, f"{endpoint} {words}"))

    def summary(self, seconds: float) -> dict[str, object]:
        return {
            "seconds": seconds,
            "statuses": dict(self.statuses),
            "wrong": self.wrong,
            "fallbacks": self.fallbacks,
            "latencies": {key: quantiles(values) for key, values in self.latencies.items()},
            "slowest": self.slowest,
            "failures": self.failures[:2000],
        }


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {key: ordered[min(len(ordered) - 1, int(q * len(ordered)))] for key, q in at.items()}


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.asked: tuple[float, int, str, float] | None = None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def send(self, due: float, number: int, endpoint: str, factor: float) -> None:
        self.asked = (due, number, endpoint, factor)
        self.transport.write(self.load.request(number, endpoint))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.buffer[:head_end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < head_end + 4 + length:
            return
        body = self.buffer[head_end + 4 : head_end + 4 + length]
        self.buffer = b""
        self.load.answered(self, head, body)

    def connection_lost(self, exc) -> None:
        self.transport = None
        self.load.lost(self)


class Load:
    """Sends requests and keeps the tally."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tally = Tally()
        self.endpoints = [
            (name, float(factor))
            for name, _, factor in (e.partition("=") for e in options.endpoint)
        ]
        self.numbers = count(1)
        self.idle: list[Connection] = []
        self.open: set[Connection] = set()
        self.opening = 0
        self.backlog: deque[tuple[float, int, str, float]] = deque()
        self.ends_at = 0.0
        self.tasks: set[asyncio.Task] = set()

    def request(self, number: int, endpoint: str) -> bytes:
        body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[%d]}]}' % number
        timeout = self.options.timeout_ms
        header = b"x-request-timeout-ms: %d\r\n" % timeout if timeout else b""
        return b"POST /v2/models/%s/infer HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n%s" % (
            endpoint.encode(),
            header,
            len(body),
            body,
        )

    def next(self, due: float) -> tuple[float, int, str, float]:
        number = next(self.numbers)
        name, factor = self.endpoints[number % len(self.endpoints)]
        return due, number, name, factor

    def answered(self, connection: Connection, head: bytes, body: bytes) -> None:
        due, number, endpoint, factor = connection.asked
        connection.asked = None
        status = head[9:12].decode()
        if status == "200":
            got = json.loads(body)["outputs"][0]["data"]
            self.tally.wrong += got != [number * factor]
            self.tally.fallbacks += b"x-shipway-fallback" in head
        self.tally.note(due, status, body if status != "200" else b"", endpoint)
        if b"connection: close" in head:
            connection.transport.close()
            return
        self.proceed(connection)

    def proceed(self, connection: Connection) -> None:
        if self.options.mode == "closed":
            if monotonic() < self.ends_at:
                connection.send(*self.next(monotonic()))
        elif self.backlog:
            connection.send(*self.backlog.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self.open.discard(connection)
        with suppress(ValueError):
            self.idle.remove(connection)
        if connection.asked is not None:
            due, _, endpoint, _ = connection.asked
            connection.asked = None
            self.tally.note(due, "reset", b"", endpoint)
        if self.options.mode == "closed" and monotonic() < self.ends_at:
            self.connect()

    def connect(self) -> None:
        self.opening += 1
        task = asyncio.ensure_future(self._connect())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self.options.port
            )
        except OSError:
            self.opening -= 1
            if self.backlog:
                due, _, endpoint, _ = self.backlog.popleft()
                self.tally.note(due, "refused", b"", endpoint)
            return
        self.opening -= 1
        if connection.transport is None:
            return
        self.open.add(connection)
        self.proceed(connection)

    async def run(self) -> dict[str, object]:
        started = monotonic()
        self.ends_at = started + self.options.seconds
        if self.options.mode == "closed":
            for _ in range(self.options.connections):
                self.connect()
            await asyncio.sleep(self.options.seconds)
        else:
            await self._send_at_fixed_times(started)
        elapsed = monotonic() - started
        await self._finish()
        return self.tally.summary(elapsed) | {"started": started}

    async def _send_at_fixed_times(self, started: float) -> None:
        sent = 0
        while (now := monotonic()) < self.ends_at:
            while (due := started + sent / self.options.rate) <= now:
                self._begin(self.next(due))
                sent += 1
            await asyncio.sleep(max(0.0005, due - monotonic()))

    def _begin(self, asked: tuple[float, int, str, float]) -> None:
        while self.idle:
            connection = self.idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                connection.send(*asked)
                return
        self.backlog.append(asked)
        if len(self.open) + self.opening < self.options.connections:
            self.connect()

    async def _finish(self) -> None:
        """Waits for what is inside; what never comes hangs."""
        end = monotonic() + self.options.deadline_s + GRACE_S
        while monotonic() < end and (  # noqa: ASYNC110 - ends with the last of many
            self.backlog or self.opening or any(c.asked for c in self.open)
        ):
            await asyncio.sleep(0.02)
        for connection in list(self.open):
            if connection.asked is not None:
                due, _, endpoint, _ = connection.asked
                connection.asked = None
                self.tally.note(due, "hang", b"", endpoint)
            connection.transport.abort()
        for due, _, endpoint, _ in self.backlog:
            self.tally.note(due, "unsent", b"", endpoint)
        await asyncio.sleep(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--endpoint", action="append", required=True)
    parser.add_argument("--mode", choices=["open", "closed"], required=True)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--deadline-s", type=float, default=5.0)
    parser.add_argument("--timeout-ms", type=int, default=0)
    options = parser.parse_args()
    json.dump(uvloop.run(Load(options).run()), sys.stdout)


if __name__ == "__main__":
    main()
