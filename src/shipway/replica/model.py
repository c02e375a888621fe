"""Model calls: a batch of requests in, the frames that answer them out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import monotonic
from typing import Protocol

import numpy as np

from shipway.core.batching import StackKey, follows_rows, stacked
from shipway.core.telemetry import Times
from shipway.core.tensors import Array
from shipway.engines.incidents import REDACTS, model_failed
from shipway.engines.port import Engine
from shipway.wire.frames import Failure, Kind, encode_plain, encode_tensors, encode_times
from shipway.wire.parts import Buffers, RowFrames, joined

STRIKES = 3
"""A model whose answers so often in a row did not follow the rows of a batch is given none any more."""


class Peer(Protocol):
    """Whoever waits for answers."""

    def send(self, data: bytes) -> None:
        """Sends one or several frames. Does nothing when the peer has gone."""
        ...

    def answered(self, stream: int) -> None:
        """The request of that number has its answer, or needs none any more."""
        ...


class Job:
    """One request: its inputs, whom to answer, and how far it is.

    A request with more rows than a call may have runs in several calls, `part_rows` at a time; its
    answer is joined from theirs. `peer` is None once nobody waits for it. `came_at` is by the
    monotonic clock, `trace` the trace that it belongs to, or empty.
    """

    __slots__ = (
        "_batch_rows", "_batches", "_call_rows", "_kept", "_run_s", "came_at", "expires_at", "inputs",
        "key", "part_rows", "peer", "rows", "start", "stream", "ticket", "trace",
    )  # fmt: skip

    def __init__(
        self,
        peer: Peer,
        stream: int,
        inputs: Mapping[str, Array],
        *,
        expires_at: float,
        came_at: float = 0.0,
    ) -> None:
        self.peer: Peer | None = peer
        self.came_at = came_at
        self.trace = ""
        self._run_s = 0.0
        self._call_rows = self._batches = self._batch_rows = 0
        self.stream = stream
        self.inputs = inputs
        self.expires_at = expires_at
        self.ticket = 0
        self.key: StackKey | None = None
        self.rows = self.part_rows = 1
        self.start = 0
        self._kept: list[dict[str, Array]] = []

    @property
    def is_whole(self) -> bool:
        """Whether it runs in one call."""
        return self.rows <= self.part_rows

    @property
    def is_through(self) -> bool:
        """Whether all its rows have been run."""
        return self.start >= self.rows

    @property
    def next_rows(self) -> int:
        """How many rows its next call has."""
        return min(self.rows - self.start, self.part_rows)

    def next_inputs(self) -> Mapping[str, Array]:
        """The inputs of its next call."""
        if self.is_whole:
            return self.inputs
        stop = self.start + self.part_rows
        return {name: array[self.start : stop] for name, array in self.inputs.items()}

    def keep(self, outputs: Mapping[str, Array], start: int) -> None:
        """Keeps the part of a call's outputs that begins at row `start`: it may be overwritten."""
        stop = start + self.next_rows
        self._kept.append({str(name): array[start:stop].copy() for name, array in outputs.items()})
        self.start += self.part_rows

    def note_call(self, seconds: float, rows: int, *, reports: bool) -> None:
        """Takes over a model call that it was in; `reports` where it is the one to tell of the call."""
        self._run_s += seconds
        self._call_rows = rows
        if reports:
            self._batches += 1
            self._batch_rows += rows

    def times(self, now: float) -> Times:
        """Where its time went, when it is answered now: what it did not run, it waited."""
        queue_s = max(0.0, now - self.came_at - self._run_s)
        return Times(queue_s, self._run_s, self._call_rows, self._batches, self._batch_rows)

    def joined_outputs(self) -> dict[str, Array]:
        """The outputs of all its calls, as one."""
        return {name: np.concatenate([part[name] for part in self._kept]) for name in self._kept[0]}


class Model:
    """An engine that answers jobs. One batch at a time; whatever its code raises is answered too."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._strikes = 0

    @property
    def is_row_wise(self) -> bool:
        """Whether its answers follow the rows of a batch, as far as is known."""
        return self._strikes < STRIKES

    def run(self, jobs: list[Job]) -> list[tuple[Peer, bytes]]:
        """The frames for each peer, in one piece of bytes.

        They are bytes of their own: a model may use its arrays again in the next call. A job that
        needs more calls has no frame yet. A batch that fails as a whole is run again one by one, so
        that a request's failure is its own.
        """
        frames = self._together(jobs)
        if frames is None:
            frames = [self._alone(job) for job in jobs]
        by_peer: dict[Peer, list[Buffers]] = {}
        for job, frame in zip(jobs, frames, strict=True):
            if frame and job.peer is not None:
                by_peer.setdefault(job.peer, []).append(frame)
        return [(peer, joined(frames)) for peer, frames in by_peer.items()]

    def _together(self, jobs: list[Job]) -> list[Buffers] | None:
        """None when they have to be run one by one."""
        if len(jobs) == 1 and jobs[0].is_whole:
            return None
        try:
            inputs = [job.next_inputs() for job in jobs]
            rows = sum(job.next_rows for job in jobs)
            began = monotonic()
            outputs = self._engine.run(inputs[0] if len(inputs) == 1 else stacked(inputs))
            ended = monotonic()
            if not follows_rows(outputs, rows):
                self._strikes += 1
                return None
            _note_call(jobs, ended - began, rows)
            frames = _cut(jobs, outputs, ended)
        except BaseException:  # noqa: BLE001 - one request's failure must be its own
            return None
        self._strikes = 0
        return frames

    def _alone(self, job: Job) -> Buffers:
        """The answer of one job, run as it was sent."""
        job.start = job.rows
        began = monotonic()
        try:
            outputs = self._engine.run(job.inputs)
            ended = monotonic()
            job.note_call(ended - began, job.rows, reports=True)
            named = {str(name): array for name, array in outputs.items()}
            times = encode_times(job.times(ended))
            return [joined([encode_tensors(Kind.RESULT, job.stream, named, times=times)])]
        except BaseException as exc:  # noqa: BLE001 - model code may raise anything, panics too
            ended = monotonic()
            job.note_call(ended - began, job.rows, reports=True)
            redacts = REDACTS in os.environ
            error = model_failed(exc, whose="Its", redacts=redacts, trace=job.trace)
            failure = Failure.of(error, job.times(ended))
            return [encode_plain(Kind.FAIL, job.stream, failure)]


def _note_call(jobs: list[Job], seconds: float, rows: int) -> None:
    """Notes a call in its jobs; the first that somebody waits for tells of it."""
    is_told = False
    for job in jobs:
        reports = not is_told and job.peer is not None
        is_told = is_told or reports
        job.note_call(seconds, rows, reports=reports)


def _cut(jobs: list[Job], outputs: Mapping[str, Array], now: float) -> list[Buffers]:
    rows = RowFrames(outputs)
    frames: list[Buffers] = []
    start = 0
    for job in jobs:
        stop = start + job.next_rows
        if job.is_whole:
            job.start = job.rows
            times = encode_times(job.times(now))
            frames.append(rows.frame(job.stream, start, stop, times=times))
        else:
            job.keep(outputs, start)
            frames.append(_joined_frame(job, now) if job.is_through else [])
        start = stop
    return frames


def _joined_frame(job: Job, now: float) -> Buffers:
    times = encode_times(job.times(now))
    return encode_tensors(Kind.RESULT, job.stream, job.joined_outputs(), times=times)
