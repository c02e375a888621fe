"""Requests for a variant without a replica: held, served when it comes, never forgotten."""

import asyncio
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

from shipway.core.bundles import ModelConfig, Served
from shipway.core.errors import NoReadyReplica
from shipway.gateway.loads import Load
from shipway.gateway.pool import ReplicaPool
from shipway.testing.live import SIGNATURE
from shipway.wire.frames import FrameReader, Kind, Pong, encode_plain, encode_tensors
from shipway.wire.snapshot import ReplicaAddress, Variant

INPUTS = {"x": np.ones(1)}


def variant_of(**changes):
    return Variant(
        model="scale", version=1, digest="sha256:0", weight_pct=100, inline=False, bundle_dir="",
        served=Served.ONNX, signature=SIGNATURE, config=ModelConfig(), **changes,
    )  # fmt: skip


connections = []


async def serve(reader, writer):
    frames = FrameReader()
    connections.append(writer)
    while data := await reader.read(2**16):
        for frame in frames.feed(data):
            if frame.kind is Kind.PING:
                writer.write(encode_plain(Kind.PONG, frame.stream, Pong("r", True, 0.0)))
            elif frame.kind is Kind.INFER:
                writer.writelines(encode_tensors(Kind.RESULT, frame.stream, INPUTS))
    writer.close()
    await writer.wait_closed()
    connections.remove(writer)


@asynccontextmanager
async def sleeping_pool(**changes):
    reports = []
    pool = ReplicaPool(on_change=lambda: reports.append(pool.waking.held))
    pool.waking.follow(variant_of(may_sleep=True, **changes))
    try:
        yield pool, reports
    finally:
        pool.close()
        await until(lambda: not connections)


async def until(claim):
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110 - other tasks move on meanwhile
            await asyncio.sleep(0.005)


async def test_a_request_is_held_reported_at_once_and_served_when_a_replica_comes(tmp_path):
    async with sleeping_pool() as (pool, reports):
        assert pool.is_ready
        calls = [asyncio.create_task(pool.infer(INPUTS, timeout_s=5)) for _ in range(8)]
        await until(lambda: pool.waking.held == 8)
        assert reports == [1]
        address = f"{tmp_path}/r"
        server = await asyncio.start_unix_server(serve, address)
        pool.expect([ReplicaAddress(id="r", address=f"unix:{address}")], deadline_s=5)
        answers = await asyncio.gather(*calls)
        assert [answer["x"].tolist() for answer in answers] == [[1.0]] * 8
        assert pool.waking.held == 0
        server.close()


async def test_a_deadline_shorter_than_the_start_is_answered_with_when_to_ask_again():
    async with sleeping_pool(waits_for="scale:1 waits for memory.") as (pool, _):
        began = time.monotonic()
        with pytest.raises(NoReadyReplica, match="waits for memory") as caught:
            await pool.infer(INPUTS, timeout_s=0.1)
        assert time.monotonic() - began < 1
        assert caught.value.details["retry_after_s"] >= 1
        assert pool.waking.held == 0


async def test_requests_held_for_a_model_that_cannot_start_fail_with_its_reason():
    async with sleeping_pool() as (pool, _):
        call = asyncio.create_task(pool.infer(INPUTS, timeout_s=5))
        await until(lambda: pool.waking.held)
        pool.waking.follow(variant_of(may_sleep=True, asleep_error="Its file is gone."))
        with pytest.raises(NoReadyReplica, match="Its file is gone"):
            await call
        assert not pool.is_ready
        assert pool.error == "Its file is gone."
        with pytest.raises(NoReadyReplica, match="Its file is gone"):
            await pool.infer(INPUTS, timeout_s=5)
        pool.waking.follow(variant_of(may_sleep=True))
        assert pool.is_ready


async def test_a_cancelled_caller_leaves_and_the_others_stay():
    async with sleeping_pool() as (pool, _):
        first, second = (asyncio.create_task(pool.infer(INPUTS, timeout_s=5)) for _ in range(2))
        await until(lambda: pool.waking.held == 2)
        first.cancel()
        await until(first.done)
        assert pool.waking.held == 1
        pool.waking.give_up("scale:1 is no longer served here.")
        with pytest.raises(NoReadyReplica, match="no longer served"):
            await second


async def test_a_variant_that_may_not_sleep_refuses_at_once():
    pool = ReplicaPool(on_change=lambda: None)
    assert not pool.is_ready
    with pytest.raises(NoReadyReplica, match="No replica is ready"):
        await pool.infer(INPUTS, timeout_s=5)


def test_load_is_the_mean_of_the_last_seconds_and_idle_since_the_last_request(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("shipway.gateway.loads.monotonic", lambda: now[0])
    load = Load()

    def after(seconds):
        now[0] += seconds

    after(1)
    load.mean()
    load.enter()
    load.enter()
    after(0.5)
    load.leave()
    after(0.5)
    assert load.mean() == pytest.approx(1.5)  # 2 x 0.5 s + 1 x 0.5 s
    assert load.idle_s == 0.0
    after(1)
    assert load.mean() == pytest.approx(1.0)
    load.leave()
    after(3)
    assert (load.in_flight, load.idle_s) == (0, 3.0)
    load.mean()
    after(1)
    load.mean()
    after(1)
    assert load.mean() == 0.0
