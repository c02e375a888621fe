"""What answers for a variant; here, a model in this process. `gateway.pool` calls replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Protocol

from shipway.core.errors import (
    DeadlineExceeded,
    DependencyError,
    ModelFailed,
    NoReadyReplica,
    ShipwayError,
)
from shipway.core.outputs import Outputs
from shipway.core.telemetry import count_run
from shipway.core.tensors import Array
from shipway.engines.bundle import verified_manifest
from shipway.engines.incidents import model_failed
from shipway.engines.load import load_engine
from shipway.engines.port import Engine
from shipway.engines.warmup import warm
from shipway.gateway.counters import Row
from shipway.gateway.traces import TRACE, own_header

RELOAD_MIN_S = 1.0
RELOAD_MAX_S = 30.0
"""Pauses between attempts at a bundle that does not load: its file may be restored."""

LOOP_SHARE_S = 0.002
"""A model call expected to take longer runs in a thread, so that other callers and health go on."""


_model_threads = ThreadPoolExecutor(thread_name_prefix="model")
"""For model calls alone: queued behind them, loading the next version would wait for all of them."""


class Runner(Protocol):
    """Runs one variant's model."""

    @property
    def is_ready(self) -> bool:
        """Whether a request could be answered now."""
        ...

    @property
    def error(self) -> str:
        """Why it is not ready; empty when it is, or is still on its way."""
        ...

    @property
    def ready_replicas(self) -> int:
        """How many copies of the model could answer a request now."""
        ...

    @property
    def ejected(self) -> int:
        """How many of its replicas are left out for doing worse than the others."""
        ...

    def run_now(self, inputs: Mapping[str, Array]) -> Outputs | None:
        """The engine's outputs, when they can be had without waiting; None when nothing was run.

        Raises:
            NoReadyReplica, ModelFailed.
        """
        ...

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """The engine's outputs.

        Raises:
            NoReadyReplica, ReplicaLost, QueueFull, DeadlineExceeded, ModelFailed.
        """
        ...

    def close(self) -> None:
        """Lets everything go; idempotent."""
        ...


class RowCost:
    """What a model needs per row: the fastest of the last 16 to 32 calls.

    The fastest, because a busy machine makes single calls look slow, and never fast.
    """

    __slots__ = ("_best_s", "_calls", "row_s")

    def __init__(self) -> None:
        self.row_s = 0.0
        self._best_s = float("inf")
        self._calls = 0

    def note(self, row_s: float) -> None:
        """Takes one call's seconds per row into account."""
        self._best_s = min(self._best_s, row_s)
        self._calls += 1
        if self._calls == 1:
            self.row_s = row_s
        elif self._calls % 16 == 0:
            self.row_s, self._best_s = self._best_s, float("inf")
        else:
            self.row_s = min(self.row_s, row_s)


class InlineRunner:
    """An ONNX model in this process.

    It runs on the event loop while its calls are short, which saves the hand-over to a thread; by
    the measured time per row, calls that would hold the loop for longer go to a thread. With `redacts`,
    what the model raises is logged without its message. `row` is where model calls are counted.
    """

    def __init__(self, directory: Path, digest: str, *, on_change: Callable[[], None]) -> None:
        """Begins to load the bundle in a thread, again and again until it succeeds."""
        self.redacts = False
        self.row = Row()
        self._engine: Engine | None = None
        self._cost = RowCost()
        self._on_change = on_change
        self._loading = asyncio.ensure_future(self._load(directory, digest))
        self.tried = asyncio.Event()
        self.error = ""

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        return self._engine is not None

    @property
    def ready_replicas(self) -> int:
        """See Runner."""
        return int(self.is_ready)

    @property
    def ejected(self) -> int:
        """See Runner. There is one model."""
        return 0

    async def _load(self, directory: Path, digest: str) -> None:
        """Verifies and loads; a failure is kept in `error` until a later attempt succeeds."""
        pause_s = RELOAD_MIN_S
        while self._engine is None:
            try:
                self._engine = await asyncio.to_thread(_load, directory, digest)
                self.error = ""
            except DependencyError as exc:
                self.error = str(exc)
            except Exception as exc:  # noqa: BLE001 - a bundle may make the engine raise anything
                self.error = f"The model does not load: {type(exc).__name__}: {exc}."
            self.tried.set()
            self._on_change()
            if self._engine is None:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RELOAD_MAX_S)

    def run_now(self, inputs: Mapping[str, Array]) -> Outputs | None:
        """See Runner."""
        rows = rows_of(inputs)
        if self._cost.row_s * rows >= LOOP_SHARE_S:
            return None
        try:
            outputs, seconds = self._run(self._loaded(), inputs, rows)
        except ShipwayError:
            raise
        except Exception as exc:
            raise self._failure(exc) from exc
        self._note(seconds, rows)
        return outputs

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """See Runner. Runs in a thread."""
        engine, rows = self._loaded(), rows_of(inputs)
        try:
            async with asyncio.timeout(timeout_s):
                call = partial(self._run, engine, inputs, rows)
                loop = asyncio.get_running_loop()
                outputs, seconds = await loop.run_in_executor(_model_threads, call)
        except TimeoutError as exc:
            raise DeadlineExceeded("The deadline passed while the model was computing.") from exc
        except Exception as exc:
            raise self._failure(exc) from exc
        self._note(seconds, rows)  # not in the thread: the loop adds to the same numbers
        return outputs

    def _failure(self, exc: Exception) -> ModelFailed:
        return model_failed(exc, whose="The gateway's", redacts=self.redacts, trace=own_header())

    def _note(self, seconds: float, rows: int) -> None:
        count_run(self.row.values, seconds, batches=1, rows=rows)
        trace = TRACE.get()
        if trace is not None:
            trace.note_run(seconds)

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise NoReadyReplica("The model is not loaded yet.", retry_after_s=1)
        return self._engine

    def _run(self, engine: Engine, inputs: Mapping[str, Array], rows: int) -> tuple[Outputs, float]:
        """The outputs, and the seconds that the model took."""
        started = perf_counter()
        outputs = engine.run(inputs)
        seconds = perf_counter() - started
        self._cost.note(seconds / rows)
        return outputs, seconds

    def close(self) -> None:
        """See Runner."""
        self._loading.cancel()
        self._engine = None


def _load(directory: Path, digest: str) -> Engine:
    content = verified_manifest(directory, digest).content
    engine = load_engine(directory, content)
    warm(engine, directory, content)
    return engine


def rows_of(inputs: Mapping[str, Array]) -> int:
    """How many rows the inputs have, by the first of them; at least 1."""
    first = next(iter(inputs.values()), None)
    return max(1, first.shape[0]) if first is not None and first.ndim else 1
