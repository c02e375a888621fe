"""What control tells of requests to its API: failures in the log, and spans of those that are kept."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import perf_counter, time_ns

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shipway.api.rules import PREFIX
from shipway.core.sampling import Sampler
from shipway.core.spans import Span, SpanKind, Value
from shipway.engines.failures import MOST_CHARACTERS, FailureLog
from shipway.wire.request_ids import given_id, made_id, shown
from shipway.wire.trace_context import TraceContext, context_of, new_id

SERVICE = "shipway-control"
_FAILED = 500


class Tracing(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans are kept, which of them whatever they say, and the process that they are from."""

    keep: Callable[[Span], None]
    sampler: Sampler
    service: str
    instance: str


class Requests:
    """The outermost frame of the API. Gateways' own calls, which wait for news, have no spans."""

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None) -> None:
        self._app = app
        self._tracing = tracing
        self._failures = FailureLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app, and tells how it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope)

        async def watched(message: Message) -> None:
            seen.note(message)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._tell(seen)

    def _tell(self, seen: _Seen) -> None:
        tracing = self._tracing
        is_traced = tracing is not None and seen.path.startswith(PREFIX)
        if seen.status >= _FAILED:
            why = seen.body[:MOST_CHARACTERS].decode("utf-8", "replace")
            trace_id = seen.trace_id.hex() if is_traced else ""
            self._failures.note(
                seen.asked, why, request_id=seen.request_id, status=seen.status, trace_id=trace_id
            )
        if tracing is None or not is_traced:
            return
        callers = None if seen.context is None else seen.context.is_sampled
        is_sampled = tracing.sampler.is_sampled(callers=callers, chance=random.random())
        if is_sampled or seen.status >= _FAILED:
            tracing.keep(_span(seen, tracing))


class _Seen:
    """One request, and what was answered so far. `status` is 0 before that."""

    def __init__(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        self.scope = scope
        self.started, self.started_ns = perf_counter(), time_ns()
        self.method, self.path = str(scope["method"]), str(scope["path"])
        self.asked = f"{shown(self.method)} {shown(self.path)}"
        self.context: TraceContext | None = context_of(headers)
        self.trace_id = new_id(16) if self.context is None else self.context.trace_id
        self.request_id = given_id(headers) or made_id()
        self.status = 0
        self.body = b""

    def note(self, message: Message) -> None:
        """Notes a part of the answer; of its body what a failure says."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        elif self.status >= _FAILED and len(self.body) < MOST_CHARACTERS:
            self.body += message.get("body", b"")


def _span(seen: _Seen, tracing: Tracing) -> Span:
    context, route = seen.context, str(getattr(seen.scope.get("route"), "path", ""))
    if route and not route.startswith(PREFIX):  # that of a router knows not where it is mounted
        route = PREFIX + route
    attributes: dict[str, Value] = {
        "http.request.method": shown(seen.method),
        "url.path": shown(seen.path),
        "http.response.status_code": seen.status,
        "shipway.request_id": seen.request_id,
    }
    if route:
        attributes["http.route"] = route
    return Span(
        name=f"{shown(seen.method)} {route}".strip(),
        kind=SpanKind.SERVER,
        trace_id=seen.trace_id,
        span_id=new_id(8),
        parent_id=b"" if context is None else context.span_id,
        start_ns=seen.started_ns,
        end_ns=seen.started_ns + int((perf_counter() - seen.started) * 1e9),
        service=tracing.service,
        instance=tracing.instance,
        attributes=attributes,
        error=f"status {seen.status}" if seen.status >= _FAILED else "",
        state="" if context is None else context.state,
    )
