"""What is noted of one request on its way: when each stage ended, and which models were asked.

The trace of the request being answered is in `TRACE`, from where those note something who know of no
request: runners, pools, caches. Tasks that a request starts inherit it, and those that outlive it note
nothing any more.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter

from shipway.core.errors import ShipwayError
from shipway.core.spans import Attributes
from shipway.core.telemetry import Times
from shipway.wire.trace_context import TraceContext, new_id, parent_header

MOST_CALLS = 8
"""Calls of models that one trace has at most."""


class Call:
    """One call of a model. `replica` is empty for a model in this process; `times` are the replica's.

    `error` is the code of what went wrong, empty where nothing did.
    """

    __slots__ = ("ended", "error", "replica", "span_id", "started", "times")

    def __init__(self, replica: str, started: float) -> None:
        self.replica = replica
        self.started = started
        self.ended = 0.0
        self.times: Times | None = None
        self.error = ""
        self.span_id = b""


class Trace:
    """One request. Times are of `perf_counter`, 0 for stages that it did not come to.

    `is_sampled`: it is kept whatever becomes of it; `may_be_kept`: if it fails or is slow. `authenticated`, `admitted`, `decoding`, `decoded`,
    `encoding` and `encoded` are when it was so far. `error` is what its caller was told, None for an
    answer; `has_failed` where that was our fault. `version` and `marks` are of the answer. `epoch_ns`
    is when the clock began, in nanoseconds since 1970.
    """

    __slots__ = (
        "admitted", "attributes", "authenticated", "calls", "context", "decoded", "decoding", "encoded",
        "encoding", "ended", "endpoint", "epoch_ns", "error", "has_failed", "is_over", "is_sampled",
        "marks", "may_be_kept", "request_id", "span_id", "started", "trace_id", "version",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: str,
        context: TraceContext | None,
        *,
        is_sampled: bool,
        may_be_kept: bool,
        request_id: str,
    ) -> None:
        self.started = perf_counter()
        self.endpoint = endpoint
        self.context = context
        self.is_sampled = is_sampled
        self.may_be_kept = may_be_kept
        self.request_id = request_id
        self.trace_id = b"" if context is None else context.trace_id
        self.span_id = b""
        self.authenticated = self.admitted = self.decoding = self.decoded = 0.0
        self.encoding = self.encoded = self.ended = 0.0
        self.calls: list[Call] = []
        self.error: ShipwayError | None = None
        self.version = ""
        self.marks: tuple[tuple[bytes, bytes], ...] = ()
        self.is_over = self.has_failed = False
        self.attributes: Attributes = {}
        self.epoch_ns = 0
        if is_sampled:
            self.identify()

    def identify(self) -> None:
        """Gives it the ids that it is known by; idempotent."""
        self.trace_id = self.trace_id or new_id(16)
        self.span_id = self.span_id or new_id(8)

    def begin_call(self, replica: str) -> Call | None:
        """Notes that a model is asked; None when it is over, or has noted enough."""
        if self.is_over or len(self.calls) >= MOST_CALLS:
            return None
        call = Call(replica, perf_counter())
        self.calls.append(call)
        return call

    def header_for(self, call: Call) -> str:
        """The `traceparent` that a replica is given, which says it of what fails; empty for what nobody keeps."""
        if not (self.is_sampled or self.may_be_kept):
            return ""
        self.identify()
        call.span_id = call.span_id or new_id(8)
        return parent_header(self.trace_id, call.span_id, is_sampled=self.is_sampled)

    def note_run(self, seconds: float) -> None:
        """Notes that a model of this process has just run for so long."""
        call = self.begin_call("")
        if call is not None:
            call.ended = call.started
            call.started -= seconds


TRACE: ContextVar[Trace | None] = ContextVar("shipway_trace", default=None)
"""The trace of the request being answered; None where it has none."""


def own_header() -> str:
    """The `traceparent` of the request being answered; empty where it has no trace that may be kept."""
    trace = TRACE.get()
    if trace is None or trace.is_over or not (trace.is_sampled or trace.may_be_kept):
        return ""
    trace.identify()
    return parent_header(trace.trace_id, trace.span_id, is_sampled=trace.is_sampled)
