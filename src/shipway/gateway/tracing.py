"""Serving that notes when each stage of a request ended, and decides afterwards what becomes of it.

A traced request pays for a few looks at the clock. Spans are made later, in another thread, of those
alone that are kept: a share of all, those that their callers record, and all that failed or were slow.
Without a collector and without an access log, `gateway.serving` is used as it is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from time import perf_counter, time_ns
from typing import Any, Generic, TypeVar

from shipway.core.errors import EndpointNotFound, ShipwayError
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.sampling import Sampler, SlowLine
from shipway.core.signature import Signature
from shipway.core.spans import Value
from shipway.gateway.access_log import note_access
from shipway.gateway.http import Request
from shipway.gateway.metering import Marked
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving, Stage
from shipway.gateway.traces import TRACE, Trace
from shipway.wire.callers import Sent
from shipway.wire.codec import Codec
from shipway.wire.problems import status_of
from shipway.wire.request_ids import header_of, made_id, own_id, shown
from shipway.wire.trace_context import PARENT, context_of

R = TypeVar("R", bound=Sent)
A = TypeVar("A", bound=Marked)

FAILED_STATUS = 500
"""From this HTTP status on, or what stands for it in another protocol, a request failed by our fault."""

MOST_ENDPOINTS = 10_000
_NONE = Sampler(share=0.0)
_OK = 200
_LEFT = 499
"""What an access log says of a caller that went away before its answer, as nginx does."""


class TracedServing(Serving):
    """Answers as `Serving` does, and notes what happens on the way."""

    def __init__(
        self,
        table: RouteTable,
        *,
        sampler: Sampler = _NONE,
        keep: Callable[[Trace], None] | None = None,
        logs_access: bool = False,
    ) -> None:
        """`keep` takes the traces that are kept; `sampler` says which are, whatever becomes of them."""
        super().__init__(table)
        self.on_stage = _note_stage
        self._sampler = sampler if keep is not None else _NONE
        self._keep = keep
        self._logs_access = logs_access
        self._lines: dict[str, SlowLine] = {}

    def answer(
        self,
        codec: Codec[R, A],
        message: R,
        name: str,
        number: str | None = None,
        *,
        is_admitted: bool = False,
    ) -> A | asyncio.Task[A]:
        """See Serving."""
        trace = self._begun(message, name)
        traced = Traced(codec, trace)
        token = TRACE.set(trace)
        try:
            answer = super().answer(traced, message, name, number, is_admitted=is_admitted)
        finally:
            TRACE.reset(token)
        if isinstance(answer, asyncio.Task):
            answer.add_done_callback(partial(self._end, trace, message))
        else:
            self._end(trace, message)
        return answer

    def _begun(self, message: Sent, name: str) -> Trace:
        headers = message.headers
        context = context_of(headers) if PARENT in headers else None
        callers = None if context is None else context.is_sampled
        is_sampled = self._sampler.is_sampled(callers=callers, chance=random.random())
        return Trace(
            name,
            context,
            is_sampled=is_sampled,
            may_be_kept=self._keep is not None,
            request_id=own_id("", headers),
        )

    def _end(self, trace: Trace, message: Sent, task: asyncio.Task[Any] | None = None) -> None:
        trace.ended = perf_counter()
        trace.is_over = True
        has_left = task is not None and task.cancelled()
        status = _LEFT if has_left else _status_of(trace.error)
        trace.has_failed = status >= FAILED_STATUS
        seconds = trace.ended - trace.started
        if self._keep is not None:
            is_slow = status == _OK and self._is_slow(trace.endpoint, seconds)
            if trace.is_sampled or trace.has_failed or is_slow:
                trace.identify()
                trace.epoch_ns = time_ns() - int(trace.ended * 1e9)
                trace.attributes = self._attributes(trace, message, status)
                self._keep(trace)
            elif trace.context is None:
                trace.trace_id = b""  # a replica was told one that nobody will find
        if self._logs_access:
            note_access(trace, status=status, seconds=seconds)

    def _is_slow(self, endpoint: str, seconds: float) -> bool:
        line = self._lines.get(endpoint)
        if line is None:
            if len(self._lines) >= MOST_ENDPOINTS:  # deleted ones among them
                self._lines.clear()
            line = self._lines[endpoint] = SlowLine()
        return line.is_slow(seconds)

    def _attributes(self, trace: Trace, message: Sent, status: int) -> dict[str, Value]:
        """What the span of the request says, by OpenTelemetry's semantic conventions where they have a name."""
        found: dict[str, Value] = {"shipway.endpoint": shown(trace.endpoint)}
        if isinstance(message, Request):
            found["http.request.method"] = message.method
            found["url.path"] = shown(message.path)
            found["http.response.status_code"] = status
        else:
            path = shown(message.headers.get(b":path", b"").decode("latin-1"))
            service, _, method = path.removeprefix("/").partition("/")
            found |= {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        if trace.request_id:
            found["shipway.request_id"] = shown(trace.request_id)
        if trace.version:
            found["shipway.version"] = trace.version
            found["shipway.role"] = self._role_of(trace)
        if trace.error is not None:
            found["error.type"] = trace.error.code
            incident = trace.error.details.get("incident")
            if incident:  # under which the traceback is in a log
                found["shipway.incident"] = shown(str(incident))
        for name, value in trace.marks:
            word = name.decode().removeprefix("x-shipway-").replace("-", "_")
            found[f"shipway.{word}"] = shown(value.decode("latin-1"))
        return found

    def _role_of(self, trace: Trace) -> str:
        try:
            route = self._table.route(trace.endpoint)
        except EndpointNotFound:
            return "primary"
        trial = route.trial
        is_candidate = trial is not None and trial.candidate.number == trace.version
        return "candidate" if is_candidate else "primary"


class Traced(Generic[R, A]):
    """A dialect that notes when it read and wrote. A codec itself."""

    __slots__ = ("_codec", "_trace")

    def __init__(self, codec: Codec[R, A], trace: Trace) -> None:
        self._codec = codec
        self._trace = trace

    def decode(self, message: R, signature: Signature) -> InferenceRequest:
        """See Codec."""
        trace = self._trace
        if trace.decoded:  # a candidate read it before
            return self._codec.decode(message, signature)
        trace.decoding = perf_counter()
        asked = self._codec.decode(message, signature)
        trace.decoded = perf_counter()
        if asked.id:
            trace.request_id = own_id(asked.id, message.headers)
        return asked

    def encode(self, response: InferenceResponse, asked: InferenceRequest) -> A:
        """See Codec."""
        trace = self._trace
        trace.version, trace.marks = response.version, response.marks
        trace.encoding = perf_counter()
        answer = self._codec.encode(response, asked)
        trace.encoded = perf_counter()
        return answer

    def refuse(self, error: ShipwayError) -> A:
        """See Codec. A failure of ours is told under the id that its trace has, and logged with the trace's."""
        trace = self._trace
        trace.error = error
        answer = self._codec.refuse(error)
        if status_of(error) < FAILED_STATUS:
            return answer
        trace.request_id = trace.request_id or made_id()
        if trace.may_be_kept:
            trace.identify()
        answer = answer.marked(header_of(trace.request_id))
        answer.trace_id = trace.trace_id
        return answer


def _note_stage(stage: Stage) -> None:
    trace = TRACE.get()
    if trace is None:
        return
    if stage is Stage.AUTHENTICATED:
        trace.authenticated = perf_counter()
    else:
        trace.admitted = perf_counter()


def _status_of(error: ShipwayError | None) -> int:
    return _OK if error is None else status_of(error)
