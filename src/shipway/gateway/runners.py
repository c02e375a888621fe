"""What answers for a variant: a model in this process, or a pool of replica processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Protocol

from shipway.core.errors import (
    DeadlineExceeded,
    DependencyError,
    NoReadyReplica,
    ReplicaLost,
    ShipwayError,
)
from shipway.core.tensors import Array
from shipway.engines.bundle import verified_manifest
from shipway.engines.incidents import model_failed
from shipway.engines.load import load_engine
from shipway.engines.port import Engine
from shipway.engines.warmup import warm
from shipway.wire.link import Link, connect
from shipway.wire.snapshot import ReplicaAddress

Outputs = dict[str, Array]

PING_EVERY_S = 0.4
PING_TIMEOUT_S = 1.0
RECONNECT_MIN_S = 0.05
RECONNECT_MAX_S = 0.5

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

    def run_now(self, inputs: Mapping[str, Array]) -> Outputs | None:
        """The engine's outputs, when they can be had without waiting; None when nothing was run.

        Raises:
            NoReadyReplica, ModelFailed.
        """
        ...

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """The engine's outputs.

        Raises:
            NoReadyReplica, ReplicaLost, DeadlineExceeded, ModelFailed.
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
    the measured time per row, calls that would hold the loop for longer go to a thread.
    """

    def __init__(self, directory: Path, digest: str, *, on_change: Callable[[], None]) -> None:
        """Begins to load the bundle in a thread, again and again until it succeeds."""
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
        rows = _rows(inputs)
        if self._cost.row_s * rows >= LOOP_SHARE_S:
            return None
        try:
            return self._run(self._loaded(), inputs, rows)
        except ShipwayError:
            raise
        except Exception as exc:
            raise model_failed(exc, whose="The gateway's") from exc

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """See Runner. Runs in a thread."""
        engine = self._loaded()
        try:
            async with asyncio.timeout(timeout_s):
                call = partial(self._run, engine, inputs, _rows(inputs))
                return await asyncio.get_running_loop().run_in_executor(_model_threads, call)
        except TimeoutError as exc:
            raise DeadlineExceeded("The deadline passed while the model was computing.") from exc
        except Exception as exc:
            raise model_failed(exc, whose="The gateway's") from exc

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise NoReadyReplica("The model is not loaded yet.", retry_after_s=1)
        return self._engine

    def _run(self, engine: Engine, inputs: Mapping[str, Array], rows: int) -> Outputs:
        started = perf_counter()
        outputs = engine.run(inputs)
        self._cost.note((perf_counter() - started) / rows)
        return outputs

    def close(self) -> None:
        """See Runner."""
        self._loading.cancel()
        self._engine = None


def _load(directory: Path, digest: str) -> Engine:
    content = verified_manifest(directory, digest).content
    engine = load_engine(directory, content)
    warm(engine, directory, content)
    return engine


def _rows(inputs: Mapping[str, Array]) -> int:
    first = next(iter(inputs.values()), None)
    return max(1, first.shape[0]) if first is not None and first.ndim else 1


class ReplicaPool:
    """Links to the replica processes of one variant, kept open, pinged and reconnected.

    The link of a replica that is expected no more takes no new requests, and is closed once those
    inside it are answered.
    """

    def __init__(self, *, on_change: Callable[[], None]) -> None:
        self._deadline_s = 0.0
        self._on_change = on_change
        self._wanted: frozenset[str] = frozenset()
        self._links: dict[str, Link] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.error = ""

    @property
    def is_ready(self) -> bool:
        """Whether at least one replica is connected and answers pings."""
        return bool(self._links)

    def expect(self, addresses: Iterable[ReplicaAddress], *, deadline_s: float) -> None:
        """Keeps links to exactly these replicas from now on.

        One that is longer than `deadline_s` in a model call is called no more until it is through.
        """
        self._deadline_s = deadline_s
        self._wanted = frozenset(replica.address for replica in addresses)
        for address in self._links.keys() - self._wanted:
            del self._links[address]
        for address in self._wanted - self._keepers.keys():
            self._keepers[address] = asyncio.ensure_future(self._keep(address))

    def run_now(self, inputs: Mapping[str, Array]) -> Outputs | None:
        """See Runner. A replica is always waited for."""
        return None

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """See Runner. A request whose replica goes away is tried once more on another one.

        Both tries share the one deadline.
        """
        until = monotonic() + timeout_s
        first = self._least_busy(None)
        try:
            return await self._ask(first, inputs, timeout_s)
        except ReplicaLost:
            left_s = max(0.0, until - monotonic())
            return await self._ask(self._least_busy(first), inputs, left_s)

    async def _ask(self, link: Link, inputs: Mapping[str, Array], timeout_s: float) -> Outputs:
        try:
            return await link.infer(inputs, timeout_s=timeout_s)
        except TimeoutError as exc:
            raise DeadlineExceeded(
                "No answer within the endpoint's deadline.",
                next_step="Send fewer rows, or raise `limits.deadline_ms` of the endpoint.",
            ) from exc

    def _least_busy(self, other_than: Link | None) -> Link:
        ready = [link for link in self._links.values() if link is not other_than and link.is_open]
        if not ready:
            raise NoReadyReplica("No replica is ready.", retry_after_s=1)
        return min(ready, key=lambda link: link.outstanding)

    async def _keep(self, address: str) -> None:
        """Connects, pings, and connects again, until it is wanted no more."""
        pause_s = RECONNECT_MIN_S
        while address in self._wanted:
            if await self._attend(address):
                pause_s = RECONNECT_MIN_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)
        del self._keepers[address]

    async def _attend(self, address: str) -> bool:
        """Holds one link for as long as its replica is well; gives whether it ever was."""
        link: Link | None = None
        was_well = False
        try:
            link = await connect(address)
            link.on_lost = partial(self._drop, address, link)
            while link.is_open:
                pong = await link.ping(timeout_s=PING_TIMEOUT_S)
                if pong.busy_s > self._deadline_s:
                    break
                if address not in self._wanted and not link.outstanding:
                    break
                was_well = True
                self._take(address, link)
                await asyncio.sleep(PING_EVERY_S)
        except (TimeoutError, ReplicaLost):
            pass
        finally:
            if link is not None:
                self._drop(address, link)
                link.close()
        return was_well

    def _take(self, address: str, link: Link) -> None:
        if address in self._wanted and address not in self._links:
            self._links[address] = link
            self._on_change()

    def _drop(self, address: str, link: Link) -> None:
        if self._links.get(address) is link:
            del self._links[address]
            self._on_change()

    def close(self) -> None:
        """See Runner."""
        self._wanted = frozenset()
        for keeper in self._keepers.values():
            keeper.cancel()
        self._keepers.clear()
