"""Copies of requests for a candidate that callers neither see nor wait for, and what became of them.

A request is copied after its answer is out. Copies wait in a queue that is bounded in number and size,
and a few are with the candidate at once; what comes on top is dropped and counted. So a candidate that
hangs or crashes costs the primary's callers nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic, perf_counter
from typing import Any, cast

from shipway.core.accounts import is_among_worst, keep_pair, note_answer, note_error, note_pair
from shipway.core.captures import Role
from shipway.core.evidence import Pair, TrialReport
from shipway.core.inference import InferenceRequest
from shipway.core.outputs import Outputs
from shipway.core.redaction import NOTHING, Redaction
from shipway.core.stalls import Seconds
from shipway.core.summaries import Summary, first_row
from shipway.core.tensors import Array
from shipway.gateway.faults import known
from shipway.gateway.recording import Record
from shipway.gateway.variants import LiveVariant

MOST_WAITING = 256
MOST_WAITING_BYTES = 32 * 1024 * 1024
AFTER_S = 0.001
"""A copy that needs not queue waits so long: on a busy machine its caller takes the answer meanwhile."""

MOST_AT_ONCE = 8
MOST_INLINE_AT_ONCE = 1
"""A candidate in this process runs in the threads that long calls of the primary run in."""

Read = Callable[[LiveVariant], tuple[InferenceRequest, dict[str, Array]]]
RecordedBy = Callable[[LiveVariant, InferenceRequest, dict[str, Array]], "Record | None"]


class Copy:
    """One request that the primary answered, or failed to: then without outputs.

    `read` gives it and its inputs for a version, `seconds` is what the primary's model took (None when it was
    not run), `size_bytes` about what the copy keeps in memory. `recorded_by` gives its record for a
    version, None where nothing is captured.
    """

    __slots__ = ("outputs", "read", "recorded_by", "request_id", "seconds", "size_bytes", "summary")

    def __init__(
        self, read: Read, *, request_id: str, size_bytes: int, recorded_by: RecordedBy
    ) -> None:
        self.read = read
        self.recorded_by = recorded_by
        self.request_id = request_id
        self.size_bytes = size_bytes
        self.outputs: Outputs | None = None
        self.summary = Summary()
        self.seconds: float | None = None


class Mirror:
    """The copies of one step of a rollout. What it sees goes into the report."""

    def __init__(self, report: TrialReport, seconds: Seconds) -> None:
        self._report = report
        self._seconds = seconds
        self._tolerance = 0.0
        self._candidate: LiveVariant | None = None
        self._deadline_s = 0.0
        self._redaction = NOTHING
        self._waiting: deque[Copy] = deque()
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def follow(
        self,
        candidate: LiveVariant,
        *,
        deadline_s: float,
        tolerance: float,
        redaction: Redaction = NOTHING,
    ) -> None:
        """Sends copies to this candidate from now on, each for so long at most.

        What is noted of them is written down: it goes through `redaction`.
        """
        self._candidate, self._deadline_s, self._tolerance = candidate, deadline_s, tolerance
        self._redaction = redaction

    def offer(self, copy: Copy) -> None:
        """Takes a copy, or drops it. Never waits, and raises nothing."""
        candidate = self._candidate
        if self._is_closed or candidate is None:
            return
        is_over = self._waiting_bytes + copy.size_bytes > MOST_WAITING_BYTES
        if len(self._waiting) >= MOST_WAITING or (self._waiting and is_over):
            self._report.pairs.dropped += 1
            return
        self._waiting.append(copy)
        self._waiting_bytes += copy.size_bytes
        if len(self._tasks) < (MOST_INLINE_AT_ONCE if candidate.spec.inline else MOST_AT_ONCE):
            task = asyncio.ensure_future(self._work(candidate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Drops all copies, and those with the candidate too; idempotent."""
        self._is_closed = True
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()

    async def _work(self, candidate: LiveVariant) -> None:
        """Sends waiting copies, one after the other, until there are none."""
        try:
            await asyncio.sleep(AFTER_S)
            while self._waiting and candidate is self._candidate:
                copy = self._waiting.popleft()
                self._waiting_bytes -= copy.size_bytes
                await self._send(copy, candidate)
        finally:
            # Not when its callbacks run: a copy offered before that would take it to be at work still.
            self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _send(self, copy: Copy, candidate: LiveVariant) -> None:
        candidate.load.enter()
        try:
            asked, inputs = copy.read(candidate)
            started = perf_counter()
            outputs = await candidate.runner.infer(inputs, timeout_s=self._deadline_s)
            seconds = perf_counter() - started
            finished = candidate.finish(outputs)
        except Exception as exc:  # noqa: BLE001 - the outermost frame of a copy
            note_error(self._report.candidate, self._redaction.error(known(exc)))
            return
        finally:
            candidate.load.leave()
        record = copy.recorded_by(candidate, asked, inputs)
        if record is not None:
            record.keep(finished, Role.SHADOW, started)
        summary = candidate.summarise(finished)
        summary = self._redaction.summary(summary, label_of=candidate.label_of)
        note_answer(self._report.candidate, summary)
        self._seconds.count(seconds, at_s=monotonic())
        if copy.outputs is not None:
            delay_s = None if copy.seconds is None else seconds - copy.seconds
            self._compare(copy, copy.outputs, inputs, finished, summary, delay_s)

    def _compare(
        self,
        copy: Copy,
        outputs: Outputs,
        inputs: dict[str, Array],
        finished: Outputs,
        summary: Summary,
        delay_s: float | None,
    ) -> None:
        pairs = self._report.pairs
        distance = note_pair(
            pairs, copy.summary, summary, tolerance=self._tolerance, delay_s=delay_s
        )
        if is_among_worst(pairs, distance):
            pair = Pair(
                distance=distance,
                request_id=copy.request_id[:200],
                inputs=self._shown(inputs),
                primary=self._shown(outputs),
                candidate=self._shown(finished),
            )
            keep_pair(pairs, pair)

    def _shown(self, arrays: Mapping[str, Array]) -> dict[str, Any]:
        """The first row as it may be written down."""
        first = {name: array[:1] if array.ndim else array for name, array in arrays.items()}
        return first_row(self._redaction.arrays(first))
