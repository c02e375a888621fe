"""What waits to be sent to a collector, and the thread that sends it.

A collector that is down, slow or full costs nothing but what it is not told: offering never waits, the
queue is bounded, and what has no place in it, or could not be sent, is counted as dropped.
"""

from __future__ import annotations

import gzip
import logging
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from threading import Event, Lock, Thread
from time import sleep
from typing import Generic, TypeVar

import httpx

from shipway.core.errors import CertificateUnusable
from shipway.core.release import VERSION
from shipway.engines.incidents import log_unexpected
from shipway.otlp.options import Target

MOST_WAITING = 4096
MOST_AT_ONCE = 512
SEND_EVERY_S = 1.0
TRIES = 3
RETRY_MIN_S = 0.5
FLUSH_S = 2.0
"""A process that ends waits so long for the last batch."""

_AGAIN = frozenset((429, 502, 503, 504))
"""After these a collector may be asked again (OTLP 1.x, "Failures"); after others it may not."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Outbox(Generic[T]):
    """A bounded queue of items, and the thread that encodes and posts them in batches.

    `on_drop` is called with the number of all that were dropped so far, from whichever thread dropped.
    """

    def __init__(
        self,
        target: Target,
        encode: Callable[[Iterable[T]], bytes],
        *,
        on_drop: Callable[[int], None] = lambda _: None,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """Starts the thread.

        Raises:
            CertificateUnusable: the target's certificates cannot be read.
        """
        self.dropped = 0
        self._target = target
        self._encode = encode
        self._on_drop = on_drop
        self._most = most_waiting
        self._waiting: deque[T] = deque()
        self._lock = Lock()
        self._news, self._is_closing = Event(), Event()
        self._is_down = self._is_faulty = False
        self._client = _client(target)
        self._thread = Thread(target=self._work, name="otlp", daemon=True)
        self._thread.start()

    def offer(self, item: T) -> None:
        """Takes an item to be sent, or counts it as dropped. Never waits; may be called by any thread."""
        waiting = len(self._waiting)
        if waiting >= self._most:
            self._drop(1)
            return
        self._waiting.append(item)
        if waiting == MOST_AT_ONCE:
            self._news.set()

    def close(self) -> None:
        """Sends what waits, within two seconds; idempotent. What is offered later is lost."""
        self._is_closing.set()
        self._news.set()
        self._thread.join(FLUSH_S)

    def _work(self) -> None:
        while not self._is_closing.is_set():
            self._news.wait(SEND_EVERY_S)
            self._news.clear()
            self._try_to_send()
        self._try_to_send()
        self._client.close()

    def _try_to_send(self) -> None:
        """Sends what waits; of faults nobody expected, the first since something was sent is told."""
        try:
            self._send_all()
        except Exception as exc:  # noqa: BLE001 - the thread's outermost frame
            if not self._is_faulty:
                heading = "The collector cannot be told now. It is tried again.\n"
                log_unexpected(exc, heading=heading, logger=__name__)
            self._is_faulty = True
            self._is_closing.wait(SEND_EVERY_S)

    def _send_all(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
            is_sent = False
            try:
                is_sent = self._is_sent(batch)
            finally:
                if not is_sent:
                    self._drop(len(batch))
            if not is_sent and self._is_closing.is_set():
                return

    def _is_sent(self, batch: Sequence[T]) -> bool:
        try:
            body = self._encode(_one_by_one(batch))
        except Exception:  # noqa: BLE001 - the outermost frame of a batch
            _log.exception("%s items cannot be encoded for the collector", len(batch))
            return False
        pause_s = RETRY_MIN_S
        for left in reversed(range(TRIES)):
            why, may_retry = self._posted(body)
            if not why:
                self._note_up()
                return True
            self._note_down(why)
            if not may_retry or not left or self._is_closing.wait(pause_s):
                break
            pause_s *= 2
        return False

    def _posted(self, body: bytes) -> tuple[str, bool]:
        """Why the collector did not take it, empty when it did; and whether it may be asked again."""
        headers = {"content-type": "application/x-protobuf"}
        if self._target.compresses:
            body, headers["content-encoding"] = gzip.compress(body, 1), "gzip"
        try:
            answer = self._client.post(self._target.url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
            return _reason(exc), True
        if answer.is_success:
            return "", False
        return f"it answers {answer.status_code}", answer.status_code in _AGAIN

    def _note_down(self, why: str) -> None:
        if not self._is_down:
            self._is_down = True
            _log.warning("The collector at %s takes nothing now: %s", self._target.url, why)

    def _note_up(self) -> None:
        self._is_faulty = False
        if self._is_down:
            self._is_down = False
            _log.info(
                "The collector at %s takes again; %s were dropped", self._target.url, self.dropped
            )

    def _drop(self, count: int) -> None:
        with self._lock:
            self.dropped += count
            dropped = self.dropped
        with suppress(ValueError):  # the counters are closed
            self._on_drop(dropped)


def _one_by_one(batch: Iterable[T]) -> Iterator[T]:
    """The items; between two of them other threads have their turn, which answer callers."""
    for item in batch:
        yield item
        sleep(0)


def _reason(exc: Exception) -> str:
    """Why nothing was sent; of a connection, as a certificate may have expired, what is wrong with it.

    Other messages may quote a header, which may be the collector's key.
    """
    name = type(exc).__name__
    return f"{name}: {exc}" if isinstance(exc, httpx.ConnectError) else name


def _client(target: Target) -> httpx.Client:
    named = {"user-agent": f"shipway/{VERSION}", **dict(target.headers)}
    headers = httpx.Headers(named, encoding="utf-8")
    try:
        verify = ssl.create_default_context(cafile=target.ca) if target.ca else True
        return httpx.Client(headers=headers, timeout=target.timeout_s, verify=verify)
    except (OSError, ValueError) as exc:
        raise CertificateUnusable(
            f"The certificates in `{target.ca}` for the OTLP collector cannot be used: {exc}.",
            next_step="Correct `OTEL_EXPORTER_OTLP_CERTIFICATE`.",
        ) from exc
