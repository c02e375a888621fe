"""The request's way while its endpoint is in a rollout: choose → try → rescue → account.

Whatever goes wrong with the candidate, the primary answers: in its own reading of the request, within
the request's own deadline, of which the candidate has the first half at most. Only what the primary
fails with is told to callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import monotonic, perf_counter
from typing import Any, Generic, NamedTuple, TypeVar

from shipway.core.accounts import is_refusal, note_answer, note_error
from shipway.core.assignment import row_key
from shipway.core.captures import Role
from shipway.core.errors import QueueFull, ShipwayError
from shipway.core.evidence import Account
from shipway.core.fallbacks import covers
from shipway.core.inference import InferenceRequest
from shipway.core.outputs import Outputs
from shipway.core.strategies import Source
from shipway.core.telemetry import Outcome, outcome_of
from shipway.core.tensors import Array
from shipway.gateway.cache import Found
from shipway.gateway.fallback import answer_instead
from shipway.gateway.faults import known
from shipway.gateway.mirror import Copy
from shipway.gateway.recording import Record
from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.gateway.steps import (
    Ending,
    Marks,
    given,
    leave,
    marks_of,
    note_end,
    require_outputs,
    response_of,
    timeout_s_of,
)
from shipway.gateway.trials import LiveTrial
from shipway.gateway.variants import LiveVariant
from shipway.wire.callers import READERS, Sent
from shipway.wire.codec import RESCUED, Codec
from shipway.wire.request_ids import own_id

R = TypeVar("R", bound=Sent)
A = TypeVar("A")


class Trying:
    """Answers requests to endpoints that are in a rollout, for callers who named no version."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    def answer(
        self,
        codec: Codec[R, A],
        message: R,
        route: LiveRoute,
        trial: LiveTrial,
        started: float,
        who: str,
    ) -> A | asyncio.Task[A]:
        """The answer to a request that was let in, or the task that makes it. Raises nothing."""
        way = _Way(codec, message, route, trial, started, who)
        way.choose()
        if way.is_tried or not way.primary.spec.inline:
            return self._later(way, self._answered(way))
        try:
            answer = way.answer_at_once()
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return self._later(way, self._unanswered(way, known(exc)))
        if answer is None:
            return self._later(way, self._answered(way))
        if way.kept is not None:
            return self._later(way, way.given(answer))
        way.end()
        return answer

    def _later(self, way: _Way[R, A], answered: Coroutine[Any, Any, A]) -> asyncio.Task[A]:
        way.route.gate.show()
        task = asyncio.ensure_future(answered)
        # Not a `finally` in the coroutine: one that is cancelled before it starts never gets there.
        task.add_done_callback(way.end)
        return task

    async def _answered(self, way: _Way[R, A]) -> A:
        if not way.is_tried:
            return await self._by_primary(way)
        try:
            answer = await way.answer_of(way.candidate)
        except Exception as exc:  # noqa: BLE001 - a candidate's failure is its own
            error = known(exc)
        else:
            return await way.given(answer)
        way.begin_rescue()
        try:
            return await self._by_primary(way)
        finally:
            way.note_rescue(error)

    async def _by_primary(self, way: _Way[R, A]) -> A:
        try:
            answer = await way.answer_of(way.primary)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a request
            return await self._unanswered(way, known(exc))
        return await way.given(answer)

    async def _unanswered(self, way: _Way[R, A], error: ShipwayError) -> A:
        """What a caller gets whom the primary could not answer."""
        route, codec, ending = way.route, way.codec, way.ending
        way.note_primary(error)
        if way.asked is not None and route.fallback is not None and covers(route.fallback, error):
            instead = await answer_instead(self._table, codec, ending, way.asked, until=way.until)
            if instead is not None:
                return instead
        ending.outcome = outcome_of(error)
        return codec.refuse(error)


class _Seen(NamedTuple):
    """What the version chosen answered; `seconds` is None where its model was not run."""

    variant: LiveVariant
    inputs: dict[str, Array]
    finished: Outputs
    seconds: float | None


class _Way(Generic[R, A]):
    """One request from the choice of a version to the end.

    `is_tried`: the candidate has the first try. `account` is that of the version chosen, None for a
    request that does not count. `asked` is the request as it was read last, `until` when its deadline
    passes, by the monotonic clock. `is_refused`: the primary found fault with the request. `kept` is what
    its answer waits for, None for nothing.
    """

    __slots__ = (
        "_copy", "_has_begun", "_marks", "_read_for", "_record", "_seen", "_trial", "_who", "account",
        "asked", "candidate", "codec", "ending", "is_refused", "is_tried", "kept", "message", "primary",
        "route", "until",
    )  # fmt: skip

    def __init__(
        self,
        codec: Codec[R, A],
        message: R,
        route: LiveRoute,
        trial: LiveTrial,
        started: float,
        who: str,
    ) -> None:
        self.codec = codec
        self.message = message
        self.route = route
        self._trial = trial
        self.primary, self.candidate = trial.primary, trial.candidate
        self.primary.holds += 1
        self.candidate.holds += 1
        self.ending = Ending(route, trial.primary, started)
        self.account: Account | None = None
        self.asked: InferenceRequest | None = None
        self.until = 0.0
        self.kept: asyncio.Future[None] | None = None
        self._who = who
        self._record: Record | None = None
        self.is_tried = False
        self.is_refused = False
        self._read_for: LiveVariant | None = None
        self._has_begun = False
        self._marks: Marks = ()
        self._copy: Copy | None = None
        self._seen: _Seen | None = None

    def choose(self) -> None:
        """Settles which version has the first try, and where the request counts. Raises nothing."""
        trial, report = self._trial, self._trial.report
        if not trial.takes_part(self._value_of):
            return
        if not trial.is_moved(self._value_of):
            self.account = report.primary
        elif trial.is_full:
            report.candidate.shed += 1
        else:
            self.account = report.candidate
            self.is_tried = True
            self.ending.variant, self.ending.row = self.candidate, self.candidate.row

    def _value_of(self, by: Source, name: str) -> str | None:
        try:
            if by is Source.INPUT:
                return row_key(self.read(self.primary)[1].get(name))
            return READERS[by](self.message, name)
        except Exception:  # noqa: BLE001 - whoever answers says what is wrong with it
            return None

    def read(self, variant: LiveVariant) -> tuple[InferenceRequest, dict[str, Array]]:
        """The request, and its inputs as that version takes them.

        Raises:
            InvalidRequest, InvalidInput, UnsupportedMediaType: it does not take them.
        """
        asked = self.asked
        is_read = self._read_for is variant or self._trial.reads_alike
        if asked is None or not is_read:
            asked = self.codec.decode(self.message, variant.spec.signature)
            if self.asked is None:
                self.until = monotonic() + timeout_s_of(self.route, asked)
            self.asked, self._read_for = asked, variant
        require_outputs(asked.outputs, variant)
        return asked, variant.conform(asked.inputs)

    async def answer_of(self, variant: LiveVariant) -> A:
        """The answer of a version, in the time that it may take. Raises what it fails with."""
        asked, inputs = self.read(variant)
        left_s = max(0.0, self.until - monotonic())
        if variant is self.candidate:
            left_s = self._trial.allowed_s(left_s)
        began = perf_counter()
        outputs = await self._run(variant, inputs, timeout_s=left_s)
        seconds = None if isinstance(outputs, Found) else perf_counter() - began
        return self._encoded(variant, asked, outputs, inputs, seconds)

    def answer_at_once(self) -> A | None:
        """The primary's answer where that needs no waiting, else None. Raises what it fails with."""
        variant = self.primary
        asked, inputs = self.read(variant)
        call = variant.runner if variant.cache is None else variant.cache.call(inputs)
        began = perf_counter()
        outputs = call.run_now(inputs)
        if outputs is None:
            return None
        seconds = None if isinstance(outputs, Found) else perf_counter() - began
        return self._encoded(variant, asked, outputs, inputs, seconds)

    def _encoded(
        self,
        variant: LiveVariant,
        asked: InferenceRequest,
        outputs: Outputs,
        inputs: dict[str, Array],
        seconds: float | None,
    ) -> A:
        finished = variant.finish(outputs)
        record = self._recorded_by(variant, asked, inputs)
        marks = (*marks_of(outputs, record), *self._marks)
        answer = self.codec.encode(response_of(self.route, variant, asked, finished, marks), asked)
        self.ending.outcome = Outcome.OK
        if record is not None:
            role = Role.CANDIDATE if variant is self.candidate else Role.PRIMARY
            self.kept = record.keep(finished, role, self.ending.started)
        if self.account is not None and self.is_tried == (variant is self.candidate):
            self._seen = _Seen(variant, inputs, finished, seconds)
        return answer

    def _recorded_by(
        self, variant: LiveVariant, asked: InferenceRequest, inputs: dict[str, Array]
    ) -> Record | None:
        """The request's record where this version answers it; None where nothing is captured."""
        recorder, record = variant.recorder, self._record
        if recorder is None:
            return None
        if record is None:
            record = self._record = recorder.begin(self.message, asked, inputs, self._who)
        return record.by(recorder, inputs)

    async def given(self, answer: A) -> A:
        """The answer, once it is recorded where somebody must wait for that."""
        return await given(self.codec, self.ending, answer, self.kept, until=self.until)

    async def _run(
        self, variant: LiveVariant, inputs: dict[str, Array], *, timeout_s: float
    ) -> Outputs:
        call = variant.runner if variant.cache is None else variant.cache.call(inputs)
        variant.load.enter()
        try:
            outputs = call.run_now(inputs)
            if outputs is None:
                self._begin()
                outputs = await call.infer(inputs, timeout_s=timeout_s)
                self.route.admission.note_answered()
        finally:
            variant.load.leave()
        return outputs

    def _begin(self) -> None:
        if not self._has_begun:
            self.route.begin(None if self.asked is None else self.asked.timeout_s)
            self._has_begun = True

    def begin_rescue(self) -> None:
        """Hands the request over to the primary."""
        self.ending.variant, self.ending.row = self.primary, self.primary.row
        self._marks = ((RESCUED, self.candidate.number.encode()),)

    def note_rescue(self, error: ShipwayError) -> None:
        """Enters what the candidate did not answer, unless the primary found fault with it too."""
        if self.account is not None and not self.is_refused:
            note_error(self.account, self._trial.redaction.error(error))

    def note_primary(self, error: ShipwayError) -> None:
        """Enters what the primary did not answer; where it had the first try, in its own account."""
        if self._has_begun and self.asked is not None:
            note_end(self.route, self.asked, error)
        self.is_refused = is_refusal(error)
        if self.is_tried or self.account is None or self.is_refused:
            return
        note_error(self.account, self._trial.redaction.error(error))
        if self.asked is not None and not isinstance(error, QueueFull):
            self._copied(self.asked.inputs)

    def _settle(self) -> None:
        """Enters what the version chosen answered, once the answer is out: callers do not wait for that."""
        seen, trial = self._seen, self._trial
        if seen is not None and self.account is not None:
            variant, inputs, finished, seconds = seen
            summary = variant.summarise(finished)
            summary = trial.redaction.summary(summary, label_of=variant.label_of)
            note_answer(self.account, summary)
            if seconds is not None:
                counted = trial.candidate_seconds if self.is_tried else trial.primary_seconds
                counted.count(seconds, at_s=monotonic())
            copy = None if self.is_tried else self._copied({**inputs, **finished})
            if copy is not None:
                copy.outputs, copy.summary, copy.seconds = finished, summary, seconds
        if self._copy is not None:
            trial.mirror.offer(self._copy)

    def _copied(self, arrays: dict[str, Array]) -> Copy | None:
        """The copy for the candidate, when this request is one of those that are copied."""
        if not self._trial.is_mirrored():
            return None
        size = len(self.message.body) + sum(array.nbytes for array in arrays.values())
        asked_id = "" if self.asked is None else self.asked.id
        request_id = own_id(asked_id, self.message.headers)
        self._copy = Copy(
            self.read, request_id=request_id, size_bytes=size, recorded_by=self._recorded_by
        )
        return self._copy

    def end(self, task: asyncio.Task[A] | None = None) -> None:
        """Counts the request out. Its answer, if it has one, is written after this and before `_settle`."""
        self.primary.holds -= 1
        self.candidate.holds -= 1
        if self._has_begun:
            self.route.end()
        leave(self.ending)
        if task is None or not task.cancelled():
            asyncio.get_running_loop().call_soon(self._settle)
