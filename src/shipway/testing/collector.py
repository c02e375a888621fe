"""A stand-in for an OpenTelemetry collector: takes OTLP over HTTP, and shows what it was told."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from threading import Event, Thread
from typing import Any

import msgspec


class SeenSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span as it arrived; ids are hexadecimal, `parent` is empty for none."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    start_ns: int
    end_ns: int
    service: str
    instance: str
    attributes: dict[str, Any]
    error: str
    state: str


class SeenLine(msgspec.Struct, frozen=True, kw_only=True):
    """A log record as it arrived."""

    message: str
    level: str
    trace: str
    service: str
    attributes: dict[str, Any]


class Collector:
    """What was told so far, and how it answers: `status` to all, `hangs` not at all until it ends."""

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        self.lines: list[SeenLine] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.hangs = False
        self.url = ""
        self.over = Event()

    def named(self, name: str) -> list[SeenSpan]:
        """The spans of that name."""
        return [span for span in self.spans.copy() if span.name == name]

    def trace(self, trace_id: str) -> list[SeenSpan]:
        """The spans of a trace."""
        return [span for span in self.spans.copy() if span.trace == trace_id]

    def until_named(self, name: str, *, count: int = 1, within_s: float = 20.0) -> list[SeenSpan]:
        """The spans of that name, once there are so many.

        Raises:
            AssertionError: there are fewer when the time is over.
        """
        until = time.monotonic() + within_s
        while len(found := self.named(name)) < count:
            assert time.monotonic() < until, f"{len(found)} spans `{name}`, not {count}"
            time.sleep(0.02)
        return found

    def take(self, path: str, body: bytes) -> None:
        """Takes one message of OTLP."""
        if path == "/v1/traces":
            self.spans += list(_spans_in(body))  # as one: who looks sees whole messages
        else:
            self.lines += list(_lines_in(body))


@contextmanager
def collecting(tls: SSLContext | None = None) -> Iterator[Collector]:
    """A collector on a free port of loopback."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            collector.headers.append({k.lower(): v for k, v in self.headers.items()})
            if collector.hangs:
                collector.over.wait(60)
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if collector.status == 200:
                collector.take(self.path, body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base has it
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    collector.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        collector.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _spans_in(body: bytes) -> Iterator[SeenSpan]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        process = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield SeenSpan(
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    kind=span.kind,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    service=process["service.name"],
                    instance=process["service.instance.id"],
                    attributes=_values(span.attributes),
                    error=span.status.message if span.status.code == 2 else "",
                    state=span.trace_state,
                )


def _lines_in(body: bytes) -> Iterator[SeenLine]:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        process = _values(resource.resource.attributes)
        for scope in resource.scope_logs:
            for line in scope.log_records:
                yield SeenLine(
                    message=line.body.string_value,
                    level=line.severity_text,
                    trace=line.trace_id.hex(),
                    service=process["service.name"],
                    attributes=_values(line.attributes),
                )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
