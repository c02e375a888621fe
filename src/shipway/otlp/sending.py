"""What one process tells a collector: its log records, and spans of whatever it makes them from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Lock
from typing import Generic, TypeVar

from shipway.core.spans import Span
from shipway.engines.logs import LISTENERS
from shipway.otlp.options import Target, options_of

T = TypeVar("T")


class Sending(Generic[T]):
    """The outboxes of one process, as its environment asks for them; with neither, it does nothing.

    OTLP's messages are imported with the first one.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        service: str,
        instance: str,
        spans_of: Callable[[T], Iterable[Span]],
        on_drop: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`service` is what the process is called where `OTEL_SERVICE_NAME` says nothing.

        `spans_of` makes the spans of what `keep` is given, in a thread of the outbox. `on_drop` is
        called with the number of all that was dropped so far.

        Raises:
            CertificateUnusable: the certificates for the collector cannot be read.
        """
        options = options_of(environment)
        self.service, self.instance = options.service or service, instance
        self.keep: Callable[[T], None] | None = None
        self._on_drop, self._lock, self._dropped = on_drop, Lock(), {"traces": 0, "logs": 0}
        self._closers: list[Callable[[], None]] = []
        if options.traces is not None:
            self._send_traces(options.traces, spans_of)
        if options.logs is not None:
            self._send_logs(options.logs, instance)

    def _send_traces(self, target: Target, spans_of: Callable[[T], Iterable[Span]]) -> None:
        from shipway.otlp.encoding import encode_spans
        from shipway.otlp.outbox import Outbox

        def encode(items: Iterable[T]) -> bytes:
            return encode_spans(span for item in items for span in spans_of(item))

        outbox: Outbox[T] = Outbox(target, encode, on_drop=partial(self._note_drop, "traces"))
        self.keep = outbox.offer
        self._closers.append(outbox.close)

    def _send_logs(self, target: Target, instance: str) -> None:
        from shipway.otlp.encoding import Line, encode_lines
        from shipway.otlp.outbox import Outbox
        from shipway.otlp.records import OtlpHandler

        encode = partial(encode_lines, service=self.service, instance=instance)
        outbox: Outbox[Line] = Outbox(target, encode, on_drop=partial(self._note_drop, "logs"))
        handler = OtlpHandler(outbox)
        logging.getLogger().addHandler(handler)
        LISTENERS.append(handler.handle)
        self._closers += (
            partial(logging.getLogger().removeHandler, handler),
            partial(LISTENERS.remove, handler.handle),
            outbox.close,
        )

    @property
    def dropped(self) -> int:
        """How many traces and log records were not sent."""
        return sum(self._dropped.values())

    def _note_drop(self, signal: str, dropped: int) -> None:
        with self._lock:
            self._dropped[signal] = dropped
            self._on_drop(self.dropped)

    def close(self) -> None:
        """Sends what waits, within a few seconds; idempotent."""
        closers, self._closers = self._closers, []
        for close in closers:
            close()
