"""A load generator in a process of its own: sends at a steady rate, and checks every answer.

It knows nothing of Shipway: plain HTTP/1.1 over asyncio streams. It reads its plan (JSON) as the
first line of stdin, prints a JSON report a few times per second, and ends when stdin closes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

_REPORT_EVERY_S = 0.25
_CONNECTIONS = 8
_TIMEOUT_S = 10.0
_TOLERANCE = 1e-3


@dataclass(slots=True)
class Target:
    """One endpoint: what to send it, how often, and the right answer of each version to each body.

    `expected[version][i]` is the right value of output `output` for body i.
    """

    name: str
    rate: float
    output: str
    bodies: list[str]
    expected: dict[str, list[list[float]]]


@dataclass(slots=True)
class Tally:
    """What was seen of one endpoint since the last report. `errors` holds a few first ones."""

    sent: int = 0
    failed: int = 0
    wrong: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def failure(self, reason: str) -> None:
        """Counts a request without an answer."""
        self.failed += 1
        if len(self.errors) < 3:
            self.errors.append(reason[:300])

    def report(self, name: str) -> dict[str, Any]:
        """The tally as JSON values."""
        return {
            "endpoint": name,
            "sent": self.sent,
            "failed": self.failed,
            "wrong": self.wrong,
            "versions": dict(self.versions),
            "latencies_ms": [round(value, 3) for value in self.latencies_ms],
            "errors": self.errors,
        }


class Connection:
    """One kept-open HTTP connection that sends one request at a time."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._host, self._port, self._key = host, port, key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"authorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status_line, *lines = answer.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(status_line.split()[1]), content

    def close(self) -> None:
        """Forgets the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Generator:
    """Sends to one endpoint from several connections, which take turns at a common schedule."""

    def __init__(self, target: Target, host: str, port: int, key: str) -> None:
        self.target = target
        self.tally = Tally()
        self._place = (host, port, key)
        self._started = perf_counter()
        self._next = 0

    async def run(self) -> None:
        """Sends for ever."""
        self._started = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(_CONNECTIONS):
                group.create_task(self._sender())

    async def _sender(self) -> None:
        connection = Connection(*self._place)
        try:
            while True:
                turn = self._next
                self._next += 1
                due = self._started + turn / self.target.rate
                await asyncio.sleep(max(0.0, due - perf_counter()))
                await self._send(connection, turn % len(self.target.bodies))
        finally:
            connection.close()

    async def _send(self, connection: Connection, row: int) -> None:
        tally = self.tally
        tally.sent += 1
        started = perf_counter()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, content = await connection.post(
                    f"/v2/models/{self.target.name}/infer", self.target.bodies[row].encode()
                )
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as exc:
            connection.close()
            tally.failure(f"{type(exc).__name__}: {exc}")
            return
        tally.latencies_ms.append((perf_counter() - started) * 1000)
        if status != 200:
            tally.failure(f"{status}: {content.decode(errors='replace')}")
            return
        self._check(json.loads(content), row)

    def _check(self, answer: dict[str, Any], row: int) -> None:
        version = str(answer.get("model_version"))
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        self.tally.versions[version] += 1
        right = self.target.expected.get(version)
        if right is None or not _is_close(outputs.get(self.target.output), right[row]):
            self.tally.wrong += 1


def _is_close(values: list[float] | None, right: list[float]) -> bool:
    if values is None or len(values) != len(right):
        return False
    return all(
        abs(value - wanted) <= _TOLERANCE * max(1.0, abs(wanted))
        for value, wanted in zip(values, right, strict=True)
    )


async def main() -> None:
    """Runs the plan on stdin until stdin closes."""
    loop = asyncio.get_running_loop()
    plan = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    generators = [
        Generator(Target(**target), plan["host"], plan["port"], plan["key"])
        for target in plan["targets"]
    ]
    tasks = [asyncio.create_task(generator.run()) for generator in generators]
    tasks.append(asyncio.create_task(_report(generators)))
    await loop.run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    _print_reports(generators)


async def _report(generators: list[Generator]) -> None:
    while True:
        await asyncio.sleep(_REPORT_EVERY_S)
        _print_reports(generators)


def _print_reports(generators: list[Generator]) -> None:
    for generator in generators:
        print(json.dumps(generator.tally.report(generator.target.name)), flush=True)
        generator.tally = Tally()


if __name__ == "__main__":
    asyncio.run(main())
