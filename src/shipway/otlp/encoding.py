"""Spans and log records as OTLP messages (opentelemetry-proto 1.x)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from shipway.core.release import VERSION
from shipway.core.spans import Attributes, Span, Value

_SCOPE = "shipway"
_ERROR = 2


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One log record. `severity` is a number of OpenTelemetry (INFO is 9); `trace_id` may be empty."""

    time_ns: int
    severity: int
    level: str
    message: str
    attributes: Attributes = {}
    trace_id: bytes = b""


def encode_spans(spans: Iterable[Span]) -> bytes:
    """The `ExportTraceServiceRequest` of these spans, each below the process that it was in."""
    request = ExportTraceServiceRequest()
    scopes: dict[tuple[str, str], ScopeSpans] = {}
    for span in spans:
        process = span.service, span.instance
        scope = scopes.get(process)
        if scope is None:
            resource = request.resource_spans.add()
            resource.resource.attributes.extend(_of_process(*process))
            scope = scopes[process] = resource.scope_spans.add()
            scope.scope.name, scope.scope.version = _SCOPE, VERSION
        made = scope.spans.add(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_id,
            trace_state=span.state,
            name=span.name,
            kind=int(span.kind),
            start_time_unix_nano=span.start_ns,
            end_time_unix_nano=span.end_ns,
            attributes=_pairs(span.attributes),
        )
        if span.error:
            made.status.code, made.status.message = _ERROR, span.error
    return bytes(request.SerializeToString())


def encode_lines(lines: Iterable[Line], *, service: str, instance: str) -> bytes:
    """The `ExportLogsServiceRequest` of these records of one process."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.extend(_of_process(service, instance))
    scope = resource.scope_logs.add()
    scope.scope.name, scope.scope.version = _SCOPE, VERSION
    scope.log_records.extend(
        LogRecord(
            time_unix_nano=line.time_ns,
            observed_time_unix_nano=line.time_ns,
            severity_number=SeverityNumber.ValueType(line.severity),
            severity_text=line.level,
            body=AnyValue(string_value=line.message),
            attributes=_pairs(line.attributes),
            trace_id=line.trace_id,
        )
        for line in lines
    )
    return bytes(request.SerializeToString())


def _of_process(service: str, instance: str) -> list[KeyValue]:
    named: Attributes = {
        "service.name": service,
        "service.instance.id": instance,
        "service.version": VERSION,
    }
    return _pairs(named)


def _pairs(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=value)
