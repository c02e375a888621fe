"""The model's queue, and the thread that runs the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from queue import SimpleQueue
from threading import Thread
from time import monotonic

from shipway.core.batching import Bounds, Queue, Run, Wait, Waiting, stack_key
from shipway.core.errors import DeadlineExceeded, QueueFull, ShipwayError
from shipway.core.pace import Pace
from shipway.core.telemetry import Times
from shipway.core.tensors import Array
from shipway.engines.port import Engine
from shipway.replica.model import Job, Model, Peer
from shipway.wire.frames import Failure, Kind, Pong, encode_plain

MAX_QUEUED = 4096
"""Far above what gateways admit; a bound all the same."""

LOOP_SHARE_S = 0.002
"""A call expected to take longer runs in the thread, so that pings are answered meanwhile."""

_JOIN_S = 0.1


class Worker:
    """Runs the model on batches of what waits, one batch at a time.

    Calls run in a thread; with `on_loop`, those that are measured to be short run on the event loop,
    which saves the way to the thread and back. That is for models that cannot hang: a model that
    holds the loop answers no ping.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        replica_id: str,
        bounds: Bounds,
        stackable: bool,
        on_loop: bool = False,
    ) -> None:
        self._model = Model(engine)
        self._id = replica_id
        self._max_rows = bounds.max_rows
        self._stackable = stackable
        self._on_loop = on_loop
        self._queue = Queue(bounds)
        self._jobs: dict[int, Job] = {}
        self._tickets = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: asyncio.AbstractEventLoop
        self._calls: SimpleQueue[tuple[Run, list[Job]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="model", daemon=True)
        self._on_end: Callable[[], None] = _nothing
        self._call_started: float | None = None
        self._last_pace: Pace | None = None
        self._is_deciding = False
        self._alarm: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_at = inf

    def start(self, on_end: Callable[[], None]) -> None:
        """Begins to work on the running loop; `on_end` is called when it cannot go on."""
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._thread.start()

    def state(self) -> Pong:
        """What a PING is answered with."""
        started, pace = self._call_started, self._last_pace
        return Pong(
            self._id,
            ready=True,
            busy_s=0.0 if started is None else monotonic() - started,
            queued=len(self._jobs),
            call_rows=pace.mean_rows if pace else 0.0,
            call_s=pace.mean_s if pace else 0.0,
            saved_s=pace.fixed_s if pace else 0.0,
        )

    def submit(
        self,
        peer: Peer,
        stream: int,
        inputs: Mapping[str, Array],
        *,
        timeout_s: float,
        trace: str = "",
    ) -> Job:
        """Queues a request. Its peer is sent one answer, and none once it is cancelled.

        `trace` is the trace that it belongs to, for the log. The answer is a RESULT, or a FAIL when the model raised or the time was up before its turn came.

        Raises:
            QueueFull: too many requests wait already.
        """
        if len(self._jobs) >= MAX_QUEUED:
            raise QueueFull("The replica's queue is full.", retry_after_s=1)
        now = monotonic()
        job = Job(peer, stream, inputs, expires_at=now + timeout_s, came_at=now)
        job.trace = trace
        if self._stackable and self._model.is_row_wise:
            job.key = stack_key(inputs)
        if job.key is not None:
            job.rows, job.part_rows = len(next(iter(inputs.values()))), self._max_rows
        self._idle.clear()
        self._enqueue(job)
        return job

    def cancel(self, job: Job) -> None:
        """Takes a request out of the queue; one that runs already is not answered."""
        job.peer = None
        if self._queue.remove(job.ticket):
            del self._jobs[job.ticket]
            self._wake()

    async def drained(self) -> None:
        """Returns once nothing is queued or running."""
        await self._idle.wait()

    def close(self) -> None:
        """Lets the thread go; a running model call is not waited for."""
        for timer in (self._alarm, self._expiry):
            if timer is not None:
                timer.cancel()
        self._calls.put(None)
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _enqueue(self, job: Job) -> None:
        self._tickets += 1
        job.ticket = ticket = self._tickets
        self._jobs[ticket] = job
        self._queue.add(Waiting(ticket, job.next_rows, job.key, monotonic(), job.expires_at))
        if job.expires_at < self._expiry_at:
            self._expire_at(job.expires_at)
        self._wake()

    def _wake(self) -> None:
        """Decides once what has been received so far is queued."""
        if self._call_started is None and not self._is_deciding:
            self._is_deciding = True
            self._loop.call_soon(self._decide)

    def _decide(self) -> None:
        self._is_deciding = False
        if self._call_started is not None:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        now = monotonic()
        if now >= self._expiry_at:
            self._expire()
        match self._queue.decide(now):
            case Run() as step:
                self._run(step, now)
            case Wait(until):
                self._alarm = self._loop.call_later(until - now, self._wake)
            case None:
                self._idle.set()

    def _run(self, step: Run, now: float) -> None:
        jobs = [self._jobs.pop(ticket) for ticket in step.tickets]
        self._call_started = now
        if self._on_loop and 0 < step.pace.expected_s(step.rows) < LOOP_SHARE_S:
            self._finish(step, jobs, self._model.run(jobs))
        else:
            self._calls.put((step, jobs))

    def _work(self) -> None:
        """The thread: one call after the other."""
        # The loop may be closed before a long call ends: nobody is left to be told.
        with suppress(RuntimeError):
            try:
                while (call := self._calls.get()) is not None:
                    step, jobs = call
                    answers = self._model.run(jobs)
                    self._loop.call_soon_threadsafe(self._finish, step, jobs, answers)
                    del call, jobs, answers  # or they would stay until the next call
            finally:
                self._loop.call_soon_threadsafe(self._on_end)

    def _finish(self, step: Run, jobs: list[Job], answers: list[tuple[Peer, bytes]]) -> None:
        if self._call_started is not None:
            step.pace.ran(step.rows, monotonic() - self._call_started)
        self._call_started, self._last_pace = None, step.pace
        for peer, data in answers:
            peer.send(data)
        for job in jobs:
            if job.peer is None:
                continue
            if job.is_through:
                job.peer.answered(job.stream)
            else:
                self._enqueue(job)
        self._wake()

    def _expire_at(self, at: float) -> None:
        self._expiry_at = at
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if at < inf:
            self._expiry = self._loop.call_later(at - monotonic(), self._expire)

    def _expire(self) -> None:
        """Answers those whose time is up, however long the model is busy yet."""
        for ticket in self._queue.expire(monotonic()):
            job = self._jobs.pop(ticket)
            if job.peer is not None:
                error = DeadlineExceeded("The deadline passed in the queue.")
                job.peer.send(failure_frame(job.stream, error, job.times(monotonic())))
                job.peer.answered(job.stream)
        self._expire_at(self._queue.next_expiry())
        self._wake()


def failure_frame(stream: int, error: ShipwayError, times: Times | None = None) -> bytes:
    """The FAIL frame that carries an error, and where the request's time went."""
    return encode_plain(Kind.FAIL, stream, Failure.of(error, times))


def _nothing() -> None:
    """What happens by default when the thread ends."""
