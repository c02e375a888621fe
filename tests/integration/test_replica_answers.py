"""A replica's stream over bad models: each caller gets its own answer, or its own failure."""

import asyncio
import io
import sys
import threading
from contextlib import asynccontextmanager

import numpy as np
import pytest

from shipway.core.batching import Bounds
from shipway.core.errors import ModelFailed
from shipway.replica.door import listening_at
from shipway.replica.server import serve
from shipway.replica.worker import Worker
from shipway.wire.link import connect


@asynccontextmanager
async def linked(tmp_path, run, *, max_rows=64, delay_s=0.005, on_loop=False):
    """A link to a replica of a model that is one function, and the event that stops it."""
    engine = type("Model", (), {"run": staticmethod(run)})()
    worker = Worker(
        engine, replica_id="r", bounds=Bounds(max_rows=max_rows, max_delay_s=delay_s), stackable=True,
        on_loop=on_loop,
    )  # fmt: skip
    address, stopping = f"unix:{tmp_path}/r.sock", asyncio.Event()
    serving = asyncio.create_task(serve(worker, listening_at(address), stopping))
    while not (tmp_path / "r.sock").exists():  # noqa: ASYNC110 - a socket tells nobody
        await asyncio.sleep(0.01)
    link = await connect(address)
    try:
        yield link, stopping
    finally:
        stopping.set()
        link.close()
        await serving


def ask(link, value, timeout_s=10.0):
    return link.infer({"x": np.array([float(value)])}, timeout_s=timeout_s)


@pytest.mark.parametrize("max_rows", [1, 64])
async def test_model_that_reuses_its_array_gives_nobody_anothers_answer(tmp_path, max_rows):
    kept = np.zeros((64, 20_000))

    def run(inputs):
        x = inputs["x"]
        kept[: len(x)] = x[:, None]
        return {"y": kept[: len(x)]}

    async with linked(tmp_path, run, max_rows=max_rows) as (link, _):
        answers = await asyncio.gather(*(ask(link, value) for value in range(200)))
    assert [value for value, answer in enumerate(answers) if (answer["y"] != value).any()] == []


class Panic(BaseException):
    """What Rust extensions raise."""


def raise_panic():
    raise Panic("at the disco")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: {"y": np.array([2**70], dtype=object)},
        lambda: {"y": np.array(["\ud800"], dtype=object)},
        lambda: {"y": np.array([object()], dtype=object)},
        lambda: {"y": np.array([1j])},
        lambda: {"y": [1.0]},
        lambda: None,
        raise_panic,
        sys.exit,
    ],
)
async def test_answer_that_cannot_be_sent_fails_at_once_and_alone(tmp_path, answer):
    def run(inputs):
        return answer() if inputs["x"][0] == 13 else {"y": inputs["x"]}

    async with linked(tmp_path, run) as (link, _):
        with pytest.raises(ModelFailed):
            await ask(link, 13, timeout_s=5)
        assert (await ask(link, 1))["y"] == [1]


async def test_bytes_of_another_order_keep_their_values(tmp_path):
    async with linked(tmp_path, lambda inputs: {"y": inputs["x"].astype(">f8")}) as (link, _):
        assert (await ask(link, 2.5))["y"] == [2.5]


async def test_failure_that_cannot_be_logged_is_still_one_requests_failure(tmp_path, monkeypatch):
    def run(inputs):
        if inputs["x"][0] == 13:
            raise ValueError
        return {"y": inputs["x"]}

    # Unbuffered, so that nothing unwritten is left to fail again at its close.
    with io.TextIOWrapper(open("/dev/full", "wb", 0), write_through=True) as full:  # noqa: ASYNC230
        monkeypatch.setattr(sys, "stderr", full)
        async with linked(tmp_path, run) as (link, _):
            with pytest.raises(ModelFailed):
                await ask(link, 13, timeout_s=5)
            assert (await ask(link, 1))["y"] == [1]
        monkeypatch.undo()


async def test_large_answer_is_sent_whole_before_a_stopping_replica_ends(tmp_path):
    address, started = f"unix:{tmp_path}/r.sock", threading.Event()

    async def replica():
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()

        def run(inputs):
            loop.call_soon_threadsafe(stopping.set)
            return {"y": np.broadcast_to(inputs["x"], (4_000_000,))}

        engine = type("Model", (), {"run": staticmethod(run)})()
        worker = Worker(engine, replica_id="r", bounds=Bounds(max_rows=64), stackable=True)
        loop.call_later(0.1, started.set)
        await serve(worker, listening_at(address), stopping)

    # A loop of its own, which ends with the replica, as its process would.
    serving = asyncio.create_task(asyncio.to_thread(asyncio.run, replica()))
    await asyncio.to_thread(started.wait)
    link = await connect(address)
    assert (await ask(link, 3))["y"].shape == (4_000_000,)
    link.close()
    await serving
