"""A span: one stage of a request's way, with its place in a trace. The terms are OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, unique

import msgspec

Value = str | int | float | bool
Attributes = Mapping[str, Value]


@unique
class SpanKind(IntEnum):
    """What a span is to the others; the numbers are OTLP's."""

    INTERNAL = 1
    """A stage inside one process."""

    SERVER = 2
    """What a process does for another one that asked it."""

    CLIENT = 3
    """What a process waits for another one for."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One stage. Times are nanoseconds since 1970; `parent_id` is empty for the first span of a trace.

    `error`: what went wrong, empty where nothing did. `service` and `instance` say which process it
    was in; `state` is the trace's `tracestate`.
    """

    name: str
    kind: SpanKind
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    start_ns: int
    end_ns: int
    service: str
    instance: str
    attributes: Attributes = {}
    error: str = ""
    state: str = ""
