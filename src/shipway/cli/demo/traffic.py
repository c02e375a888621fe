"""The demo's view of its load generator: starts it, and sums up what it reports."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import msgspec

_END_TIMEOUT_S = 15.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator saw of one endpoint in a fraction of a second."""

    endpoint: str
    sent: int
    failed: int
    wrong: int
    versions: dict[str, int]
    latencies_ms: tuple[float, ...]
    errors: tuple[str, ...] = ()


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Several reports of one endpoint, summed."""

    sent: int
    failed: int
    wrong: int
    versions: Counter[str]
    p50_ms: float
    p99_ms: float
    rate: float
    errors: tuple[str, ...]


class Traffic:
    """A load generator in another process, and everything that it has reported."""

    def __init__(self, gateway_url: str, key: str, targets: Sequence[dict[str, Any]]) -> None:
        place = urlsplit(gateway_url)
        plan = {"host": place.hostname, "port": place.port, "key": key, "targets": targets}
        self._reports: list[tuple[float, Report]] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shipway.cli.demo.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(plan) + b"\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The generator's process."""
        return self._process.pid

    def end(self) -> None:
        """Lets the generator finish, and waits for it. Calling it again does nothing."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_END_TIMEOUT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def wait_until_sent(self, endpoint: str, count: int, *, timeout_s: float) -> bool:
        """Whether so many requests were sent, once they were or the time is up."""
        return self._wait(lambda: self.totals(endpoint).sent >= count, timeout_s=timeout_s)

    def wait_for_version(self, endpoint: str, version: str, *, timeout_s: float) -> bool:
        """Whether the newest report saw only that version, once it did or the time is up."""
        since = monotonic()

        def is_alone() -> bool:
            newest = [r for at, r in self._reports if r.endpoint == endpoint and at > since]
            return bool(newest) and set(newest[-1].versions) == {version}

        return self._wait(is_alone, timeout_s=timeout_s)

    def totals(self, endpoint: str, *, since: float = 0.0) -> Totals:
        """The sum of the reports that came after `since` (monotonic seconds)."""
        chosen = [(at, r) for at, r in self._reports if r.endpoint == endpoint and at > since]
        latencies = sorted(value for _, report in chosen for value in report.latencies_ms)
        versions: Counter[str] = Counter()
        for _, report in chosen:
            versions.update(report.versions)
        sent = sum(report.sent for _, report in chosen)
        return Totals(
            sent=sent,
            failed=sum(report.failed for _, report in chosen),
            wrong=sum(report.wrong for _, report in chosen),
            versions=versions,
            p50_ms=_quantile(latencies, 0.5),
            p99_ms=_quantile(latencies, 0.99),
            rate=_rate(chosen),
            errors=tuple(text for _, report in chosen for text in report.errors)[:3],
        )

    def _wait(self, is_true: Any, *, timeout_s: float) -> bool:
        with self._news:
            return bool(self._news.wait_for(is_true, timeout_s))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            report = msgspec.json.decode(line, type=Report)
            with self._news:
                self._reports.append((monotonic(), report))
                self._news.notify_all()


def _rate(reports: Sequence[tuple[float, Report]]) -> float:
    """Requests per second between the first and the last report; the first opens the interval."""
    if len(reports) < 2:
        return 0.0
    seconds = reports[-1][0] - reports[0][0]
    return sum(report.sent for _, report in reports[1:]) / seconds if seconds else 0.0


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
