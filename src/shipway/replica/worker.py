"""The model's queue and the one thread that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from shipway.core.batching import Waiting, next_batch, split, stack_key, stacked
from shipway.core.errors import DeadlineExceeded, ModelFailed, QueueFull
from shipway.core.tensors import Array
from shipway.engines.incidents import model_failed
from shipway.engines.port import Engine
from shipway.wire.frames import Pong, encode_body

MAX_QUEUED = 4096
"""Far above what gateways admit; a bound all the same."""


class _Job:
    """One request in the queue: its inputs, when it expires, and whom to answer."""

    __slots__ = ("answer", "expires_at", "inputs", "waiting")

    def __init__(self, waiting: Waiting, inputs: Mapping[str, Array], expires_at: float) -> None:
        self.waiting = waiting
        self.inputs = inputs
        self.expires_at = expires_at
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class Worker:
    """Runs the model on batches of what waits, one batch at a time, in a thread of its own.

    The event loop stays free meanwhile, so pings are answered while the model computes.
    """

    def __init__(self, engine: Engine, *, replica_id: str, max_rows: int, stackable: bool) -> None:
        self._engine = engine
        self._id = replica_id
        self._max_rows = max_rows
        self._stackable = stackable
        self._jobs: dict[int, _Job] = {}
        self._tickets = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._call_started: float | None = None

    def state(self) -> Pong:
        """What a PING is answered with."""
        started = self._call_started
        busy_s = 0.0 if started is None else monotonic() - started
        return Pong(self._id, ready=True, busy_s=busy_s, queued=len(self._jobs))

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> bytes:
        """The model's outputs as a frame's body; cancelling it takes the request out of the queue.

        Raises:
            QueueFull: too many requests wait already.
            DeadlineExceeded: its time was up before the model got to it.
            ModelFailed: the model's code raised; the traceback is in the log.
        """
        if len(self._jobs) >= MAX_QUEUED:
            raise QueueFull("The replica's queue is full.", retry_after_s=1)
        self._tickets += 1
        ticket = self._tickets
        key = stack_key(inputs) if self._stackable else None
        rows = len(next(iter(inputs.values()))) if key is not None else 1
        job = _Job(Waiting(ticket, rows, key), inputs, monotonic() + timeout_s)
        self._jobs[ticket] = job
        self._idle.clear()
        self._wake.set()
        try:
            return await job.answer
        finally:
            self._jobs.pop(ticket, None)

    async def run(self) -> None:
        """Works until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            jobs = self._next_jobs()
            if not jobs:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                continue
            self._call_started = monotonic()
            answers = await loop.run_in_executor(self._thread, self._run_batch, jobs)
            self._call_started = None
            for job, answer in zip(jobs, answers, strict=True):
                _settle(job.answer, answer)

    async def drained(self) -> None:
        """Returns once nothing is queued or running."""
        await self._idle.wait()

    def close(self) -> None:
        """Lets the thread go; a running model call is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _next_jobs(self) -> list[_Job]:
        now = monotonic()
        for ticket, job in list(self._jobs.items()):
            if job.expires_at <= now:
                del self._jobs[ticket]
                _settle(job.answer, DeadlineExceeded("The deadline passed in the queue."))
        queue = (job.waiting for job in self._jobs.values())
        return [self._jobs.pop(ticket) for ticket in next_batch(queue, max_rows=self._max_rows)]

    def _run_batch(self, jobs: list[_Job]) -> list[bytes | ModelFailed]:
        """Runs in the model's thread. When the whole fails, each request is tried by itself.

        Answers leave the thread as bytes of their own: a model may use its arrays again in the next
        call, and what cannot be sent is the model's failure.
        """
        if len(jobs) == 1:
            return [self._run_one(jobs[0])]
        try:
            outputs = self._engine.run(stacked([job.inputs for job in jobs]))
            parts = split(outputs, [job.waiting.rows for job in jobs])
            if parts is not None:
                return [_sendable(part) for part in parts]
        except BaseException:  # noqa: BLE001, S110 - one request's failure must be its own
            pass
        return [self._run_one(job) for job in jobs]

    def _run_one(self, job: _Job) -> bytes | ModelFailed:
        try:
            return _sendable(self._engine.run(job.inputs))
        except BaseException as exc:  # noqa: BLE001 - model code may raise anything, panics too
            return model_failed(exc, whose="Its")


def _sendable(outputs: Mapping[str, Array]) -> bytes:
    return b"".join(encode_body({str(name): array for name, array in outputs.items()}))


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
