"""From what was noted of a request to its spans: the request, its stages, and what its replicas did.

```
request (server)
├── authenticate, admit, route, decode, validate
├── infer (client; one for each call of a model)
│   ├── queue                  in the replica
│   └── run (server)           in the replica
└── encode
```

What went wrong is told by the error's code, as in the access log: its message may quote a caller's values,
and spans leave the machine.
"""

from __future__ import annotations

from collections.abc import Iterator

from shipway.core.spans import Attributes, Span, SpanKind, Value
from shipway.core.telemetry import Times
from shipway.gateway.traces import Call, Trace
from shipway.wire.trace_context import new_id

GATEWAY = "shipway-gateway"
REPLICA = "shipway-replica"


class Stages:
    """Makes the spans of the traces of one gateway, which is an `instance` of the `service`."""

    def __init__(self, *, instance: str, service: str = "") -> None:
        self._service = service or GATEWAY
        self._instance = instance

    def spans_of(self, trace: Trace) -> Iterator[Span]:
        """The spans of a trace that is over, the request's own first."""
        context, error = trace.context, trace.error
        yield Span(
            name="request",
            kind=SpanKind.SERVER,
            trace_id=trace.trace_id,
            span_id=trace.span_id,
            parent_id=b"" if context is None else context.span_id,
            start_ns=_ns(trace, trace.started),
            end_ns=_ns(trace, trace.ended),
            service=self._service,
            instance=self._instance,
            attributes=trace.attributes,
            error=error.code if error is not None and trace.has_failed else "",
            state="" if context is None else context.state,
        )
        for name, start, end, fault in _intervals(trace):
            yield self._child(trace, name, start, end, error=fault)
        for call in trace.calls:
            yield from self._of_call(trace, call)

    def _child(self, trace: Trace, name: str, start: float, end: float, *, error: str = "") -> Span:
        return Span(
            name=name,
            kind=SpanKind.INTERNAL,
            trace_id=trace.trace_id,
            span_id=new_id(8),
            parent_id=trace.span_id,
            start_ns=_ns(trace, start),
            end_ns=_ns(trace, end),
            service=self._service,
            instance=self._instance,
            error=error,
        )

    def _of_call(self, trace: Trace, call: Call) -> Iterator[Span]:
        """The span of a call, and below it what the replica said that it did meanwhile."""
        span_id = call.span_id or new_id(8)
        # A call that was given up, because its caller left, ends with the request.
        end = call.ended or trace.ended
        where: dict[str, Value] = {"shipway.replica": call.replica} if call.replica else {}
        yield Span(
            name="infer",
            kind=SpanKind.CLIENT if call.replica else SpanKind.INTERNAL,
            trace_id=trace.trace_id,
            span_id=span_id,
            parent_id=trace.span_id,
            start_ns=_ns(trace, call.started),
            end_ns=_ns(trace, end),
            service=self._service,
            instance=self._instance,
            attributes=where,
            error=call.error,
        )
        if call.times is not None:
            yield from _in_replica(trace, call, call.times, span_id)


def _in_replica(trace: Trace, call: Call, times: Times, parent_id: bytes) -> Iterator[Span]:
    """What happened in the replica, by durations alone: its clock may be another machine's.

    They are put in the middle of the call, as if the ways there and back took as long as each other,
    which is NTP's assumption (RFC 5905, 8).
    """
    way_s = max(0.0, call.ended - call.started - times.queue_s - times.run_s) / 2
    came = call.started + way_s
    began = came + times.queue_s
    stages: tuple[tuple[str, SpanKind, float, float, Attributes], ...] = (
        ("queue", SpanKind.INTERNAL, came, began, {}),
        (
            "run",
            SpanKind.SERVER,
            began,
            began + times.run_s,
            {"shipway.batch_rows": times.call_rows},
        ),
    )
    for name, kind, start, end, attributes in stages:
        yield Span(
            name=name,
            kind=kind,
            trace_id=trace.trace_id,
            span_id=new_id(8),
            parent_id=parent_id,
            start_ns=_ns(trace, start),
            end_ns=_ns(trace, end),
            service=REPLICA,
            instance=call.replica,
            attributes=attributes,
            error=call.error if name == "run" else "",
        )


def _intervals(trace: Trace) -> Iterator[tuple[str, float, float, str]]:
    """The stages that the request came to: name, start, end, and what went wrong in it.

    What ended a request before a model was asked went wrong in the first stage that has no end.
    """
    asked = trace.calls[0].started if trace.calls else trace.encoding
    ends = (
        ("authenticate", trace.authenticated),
        ("admit", trace.admitted),
        ("route", trace.decoding),
        ("decode", trace.decoded),
        ("validate", asked),
    )
    start = trace.started
    for name, end in ends:
        if not end:
            fault = trace.error.code if trace.error is not None else ""
            yield name, start, trace.ended, fault
            return
        yield name, start, end, ""
        start = end
    if trace.encoding:
        yield "encode", trace.encoding, trace.encoded or trace.ended, ""


def _ns(trace: Trace, at: float) -> int:
    return trace.epoch_ns + int(at * 1e9)
