"""What answers for a variant: a model in this process, or a pool of replica processes."""

from __future__ import annotations

import asyncio
import secrets
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Protocol

from shipway.core.errors import (
    DeadlineExceeded,
    DependencyError,
    ModelFailed,
    NoReadyReplica,
    ReplicaLost,
    ShipwayError,
)
from shipway.core.tensors import Array
from shipway.engines.bundle import verified_manifest
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

LOOP_SHARE_S = 0.002
"""A model call expected to take longer runs in a thread, so that other callers and health go on."""


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

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._cost = RowCost()
        self.error = ""

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        return self._engine is not None

    async def load(self, directory: Path, digest: str) -> None:
        """Verifies and loads the bundle in a thread; a failure is kept in `error`."""
        try:
            self._engine = await asyncio.to_thread(_load, directory, digest)
        except DependencyError as exc:
            self.error = str(exc)
        except Exception as exc:  # noqa: BLE001 - a bundle may make the engine raise anything
            self.error = f"The model does not load: {type(exc).__name__}: {exc}."

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
            raise _model_failed(exc) from exc

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """See Runner. Runs in a thread."""
        engine = self._loaded()
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.to_thread(self._run, engine, inputs, _rows(inputs))
        except TimeoutError as exc:
            raise DeadlineExceeded("The deadline passed while the model was computing.") from exc
        except Exception as exc:
            raise _model_failed(exc) from exc

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
        self._engine = None


def _load(directory: Path, digest: str) -> Engine:
    content = verified_manifest(directory, digest).content
    engine = load_engine(directory, content)
    warm(engine, directory, content)
    return engine


def _rows(inputs: Mapping[str, Array]) -> int:
    first = next(iter(inputs.values()), None)
    return max(1, first.shape[0]) if first is not None and first.ndim else 1


def _model_failed(exc: Exception) -> ModelFailed:
    incident = secrets.token_hex(6)
    sys.stderr.write(
        f"incident {incident}: the model raised\n{''.join(traceback.format_exception(exc))}"
    )
    return ModelFailed(
        "The model raised an error.",
        next_step=f"The gateway's log has the traceback under incident `{incident}`.",
        incident=incident,
    )


class ReplicaPool:
    """Links to the replica processes of one variant, kept open, pinged and reconnected."""

    def __init__(self, *, deadline_s: float, on_change: Callable[[], None]) -> None:
        self._deadline_s = deadline_s
        self._on_change = on_change
        self._links: dict[str, Link] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.error = ""

    @property
    def is_ready(self) -> bool:
        """Whether at least one replica is connected and answers pings."""
        return bool(self._links)

    def expect(self, addresses: Iterable[ReplicaAddress]) -> None:
        """Keeps links to exactly these replicas from now on."""
        wanted = {replica.address for replica in addresses}
        for address in self._keepers.keys() - wanted:
            self._keepers.pop(address).cancel()
        for address in wanted - self._keepers.keys():
            self._keepers[address] = asyncio.ensure_future(self._keep(address))

    def run_now(self, inputs: Mapping[str, Array]) -> Outputs | None:
        """See Runner. A replica is always waited for."""
        return None

    async def infer(self, inputs: Mapping[str, Array], *, timeout_s: float) -> Outputs:
        """See Runner. A request whose replica goes away is tried once more on another one."""
        first = self._least_busy(None)
        try:
            return await self._ask(first, inputs, timeout_s)
        except ReplicaLost:
            return await self._ask(self._least_busy(first), inputs, timeout_s)

    async def _ask(self, link: Link, inputs: Mapping[str, Array], timeout_s: float) -> Outputs:
        try:
            return await link.infer(inputs, timeout_s=timeout_s)
        except TimeoutError as exc:
            raise DeadlineExceeded(
                f"No answer within the deadline of {timeout_s * 1000:.0f} ms.",
                next_step="Send fewer rows, or raise `limits.deadline_ms` of the endpoint.",
            ) from exc

    def _least_busy(self, other_than: Link | None) -> Link:
        ready = [link for link in self._links.values() if link is not other_than and link.is_open]
        if not ready:
            raise NoReadyReplica("No replica is ready.", retry_after_s=1)
        return min(ready, key=lambda link: link.outstanding)

    async def _keep(self, address: str) -> None:
        """Connects, pings, and connects again, until cancelled."""
        pause_s = RECONNECT_MIN_S
        while True:
            if await self._attend(address):
                pause_s = RECONNECT_MIN_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)

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
                if not was_well:
                    was_well = True
                    self._links[address] = link
                    self._on_change()
                await asyncio.sleep(PING_EVERY_S)
        except (TimeoutError, ReplicaLost):
            pass
        finally:
            if link is not None:
                self._drop(address, link)
                link.close()
        return was_well

    def _drop(self, address: str, link: Link) -> None:
        if self._links.get(address) is link:
            del self._links[address]
            self._on_change()

    def close(self) -> None:
        """See Runner."""
        for keeper in self._keepers.values():
            keeper.cancel()
        self._keepers.clear()
