"""How a gateway holds on to replicas, models and control when they misbehave."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager, suppress

import msgspec
import numpy as np
import pytest

from shipway.core.errors import DeadlineExceeded, ModelFailed, NoReadyReplica, QueueFull
from shipway.gateway import pool as pools
from shipway.gateway import runners
from shipway.gateway.follow import Follower
from shipway.gateway.pool import ReplicaPool
from shipway.gateway.routes import RouteTable
from shipway.gateway.runners import InlineRunner
from shipway.gateway.telemetry import Telemetry
from shipway.testing.live import onnx_bundle
from shipway.wire.frames import (
    Failure,
    FrameReader,
    Kind,
    Pong,
    encode_plain,
    encode_tensors,
)
from shipway.wire.snapshot import ReplicaAddress, Snapshot

INPUTS = {"x": np.ones(1)}


class Replica:
    """Speaks the stream as a replica does: answers after a while, never, or hangs up instead.

    `error`: what it answers every request with. `queued`: what it says that waits.
    """

    def __init__(
        self, address, *, answers_after_s=None, hangs_up=False, busy_s=0.0, error=None, queued=0
    ):
        self.address = ReplicaAddress(id="r", address=address)
        self.busy_s = busy_s
        self.error = error
        self.queued = queued
        self.asked = 0
        self.connections = 0
        self._answers_after_s = answers_after_s
        self._hangs_up = hangs_up

    async def __call__(self, reader, writer):
        self.connections += 1
        try:
            # A pool that ends with answers unread resets the connection.
            with suppress(ConnectionError):
                await self._serve(reader, writer)
        finally:
            self.connections -= 1
            writer.close()

    async def _serve(self, reader, writer):
        frames = FrameReader()
        while data := await reader.read(2**16):
            for frame in frames.feed(data):
                if frame.kind is Kind.PING:
                    pong = Pong("r", ready=True, busy_s=self.busy_s, queued=self.queued)
                    writer.write(encode_plain(Kind.PONG, frame.stream, pong))
                elif frame.kind is Kind.INFER:
                    self.asked += 1
                    if self.error is not None:
                        failure = Failure.of(self.error("on purpose"))
                        writer.write(encode_plain(Kind.FAIL, frame.stream, failure))
                    elif self._answers_after_s is not None:
                        loop = asyncio.get_running_loop()
                        loop.call_later(self._answers_after_s, self._answer, writer, frame.stream)

    def _answer(self, writer, stream):
        if self._hangs_up:
            writer.transport.abort()
        else:
            writer.writelines(encode_tensors(Kind.RESULT, stream, INPUTS))


@asynccontextmanager
async def pool_of(*replicas, deadline_s=5.0):
    servers = [
        await asyncio.start_unix_server(r, r.address.address.removeprefix("unix:"))
        for r in replicas
    ]
    pool = ReplicaPool(on_change=lambda: None)
    try:
        for replica in replicas:
            pool.expect([r.address for r in replicas], deadline_s=deadline_s)
            await until(lambda replica=replica: replica.connections)
        yield pool
    finally:
        pool.close()
        for server in servers:
            server.close()
        await until(lambda: not any(replica.connections for replica in replicas))


async def until(claim):
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110 - other tasks move on meanwhile
            await asyncio.sleep(0.01)


async def test_second_try_has_only_what_is_left_of_the_deadline(tmp_path):
    lost = Replica(f"unix:{tmp_path}/0", answers_after_s=1.2, hangs_up=True)
    silent = Replica(f"unix:{tmp_path}/1")
    async with pool_of(lost, silent) as pool:
        await until(lambda: pool.is_ready)
        await asyncio.sleep(0.1)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            # Two, so that each replica gets one first.
            await asyncio.gather(*(pool.infer(INPUTS, timeout_s=1.4) for _ in range(2)))
        await until(lambda: silent.asked == 2)
    assert time.monotonic() - started < 2.5  # its own 1.4 s would end at 2.6


async def test_replica_that_is_expected_no_more_answers_what_it_has_and_is_let_go(tmp_path):
    replica = Replica(f"unix:{tmp_path}/0", answers_after_s=0.3)
    async with pool_of(replica) as pool:
        await until(lambda: pool.is_ready)
        inside = asyncio.create_task(pool.infer(INPUTS, timeout_s=5))
        await until(lambda: replica.asked)
        pool.expect([], deadline_s=5)
        assert not pool.is_ready
        assert (await inside)["x"] == [1]
        await until(lambda: not replica.connections)
    assert replica.asked == 1


async def test_replica_that_is_expected_again_is_called_again(tmp_path):
    replica = Replica(f"unix:{tmp_path}/0", answers_after_s=0.0)
    async with pool_of(replica) as pool:
        await until(lambda: pool.is_ready)
        pool.expect([], deadline_s=5)
        pool.expect([replica.address], deadline_s=5)
        await until(lambda: pool.is_ready)
        assert (await pool.infer(INPUTS, timeout_s=5))["x"] == [1]


async def test_changed_deadline_counts_for_replicas_that_are_linked_already(tmp_path):
    replica = Replica(f"unix:{tmp_path}/0", busy_s=3)
    async with pool_of(replica, deadline_s=5) as pool:
        await until(lambda: pool.is_ready)
        pool.expect([replica.address], deadline_s=1)
        await until(lambda: not pool.is_ready)
        pool.expect([replica.address], deadline_s=5)
        await until(lambda: pool.is_ready)


@pytest.fixture
def quick_judge(monkeypatch):
    monkeypatch.setattr(pools, "PING_EVERY_S", 0.02)
    monkeypatch.setattr(pools, "JUDGE_EVERY_S", 0.05)


async def outcomes(pool, number):
    asked = (pool.infer(INPUTS, timeout_s=5) for _ in range(number))
    return [type(one) for one in await asyncio.gather(*asked, return_exceptions=True)]


async def test_request_that_a_full_replica_refuses_is_answered_by_another(tmp_path):
    full = Replica(f"unix:{tmp_path}/0", error=QueueFull)
    well = Replica(f"unix:{tmp_path}/1", answers_after_s=0.01)
    async with pool_of(full, well) as pool:
        await until(lambda: len(pool._called) == 2)
        assert set(await outcomes(pool, 20)) == {dict}
    assert full.asked > 0
    assert well.asked == 20


async def test_fleet_that_refuses_everything_is_not_asked_twice_for_each_request(tmp_path):
    replicas = [Replica(f"unix:{tmp_path}/{n}", error=QueueFull) for n in range(2)]
    async with pool_of(*replicas) as pool:
        await until(lambda: len(pool._called) == 2)
        for _ in range(40):
            assert set(await outcomes(pool, 25)) == {QueueFull}
    assert 1000 < replicas[0].asked + replicas[1].asked < 1500


async def test_replica_that_fails_far_more_than_its_peers_is_left_out_and_tried_again(
    tmp_path, quick_judge
):
    broken = Replica(f"unix:{tmp_path}/0", error=ModelFailed)
    others = [Replica(f"unix:{tmp_path}/{n}", answers_after_s=0.0) for n in (1, 2)]
    async with pool_of(broken, *others) as pool:
        await until(lambda: len(pool._called) == 3)
        assert ModelFailed in await outcomes(pool, 60)
        await until(lambda: pool.ejected == 1)
        asked = broken.asked
        assert set(await outcomes(pool, 60)) == {dict}
        assert broken.asked == asked
        broken.error, broken._answers_after_s = None, 0.0
        await until(lambda: pool.ejected == 0)
        async with asyncio.timeout(20):
            while broken.asked < asked + 10:
                assert set(await outcomes(pool, 10)) == {dict}


async def test_model_that_fails_on_every_replica_leaves_all_of_them_in(tmp_path, quick_judge):
    replicas = [Replica(f"unix:{tmp_path}/{n}", error=ModelFailed) for n in range(3)]
    async with pool_of(*replicas) as pool:
        await until(lambda: len(pool._called) == 3)
        for _ in range(5):
            assert set(await outcomes(pool, 30)) == {ModelFailed}
            await asyncio.sleep(0.06)
        assert (pool.ejected, len(pool._called)) == (0, 3)


async def test_replica_that_is_busy_for_other_gateways_gets_less(tmp_path):
    crowded = Replica(f"unix:{tmp_path}/0", answers_after_s=0.0, queued=50)
    idle = Replica(f"unix:{tmp_path}/1", answers_after_s=0.0)
    async with pool_of(crowded, idle) as pool:
        await until(lambda: len(pool._called) == 2)
        assert set(await outcomes(pool, 40)) == {dict}
    assert (crowded.asked, idle.asked) == (0, 40)


async def test_last_replica_is_called_although_it_was_left_out(tmp_path, quick_judge):
    broken = Replica(f"unix:{tmp_path}/0", error=ModelFailed)
    well = Replica(f"unix:{tmp_path}/1", answers_after_s=0.0)
    async with pool_of(broken, well) as pool:
        await until(lambda: len(pool._called) == 2)
        await outcomes(pool, 60)
        await until(lambda: pool.ejected == 1)
        pool.expect([broken.address], deadline_s=5)
        assert pool.is_ready
        assert await outcomes(pool, 1) == [ModelFailed]


async def test_replicas_are_not_lost_because_the_gateway_itself_did_not_come_round(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(pools, "PING_EVERY_S", 0.01)
    monkeypatch.setattr(pools, "PING_TIMEOUT_S", 0.2)
    replicas = [Replica(f"unix:{tmp_path}/{n}", answers_after_s=0.0) for n in range(2)]
    async with pool_of(*replicas) as pool:
        await until(lambda: len(pool._called) == 2)
        links = [one.link for one in pool._called]
        for _ in range(3):
            time.sleep(0.6)  # noqa: ASYNC251 - the loop is held up, pings or not
            await asyncio.sleep(0.05)
        assert [one.link for one in pool._called] == links
        assert pool.ejected == 0


async def test_many_slow_model_calls_hold_up_nothing_else(tmp_path):
    release = threading.Event()

    class Slow:
        def run(self, inputs):
            release.wait(10)
            return dict(inputs)

    runner = InlineRunner(tmp_path / "none", "sha256:0", on_change=lambda: None)
    await runner.tried.wait()
    runner._engine = Slow()
    calls = [asyncio.create_task(runner.infer(INPUTS, timeout_s=10)) for _ in range(64)]
    await asyncio.sleep(0.1)
    try:
        async with asyncio.timeout(8):
            assert await asyncio.to_thread(lambda: "loaded") == "loaded"
    finally:
        release.set()
        await asyncio.gather(*calls)
        runner.close()


async def test_damaged_inline_bundle_is_loaded_once_its_file_is_restored(tmp_path, monkeypatch):
    monkeypatch.setattr(runners, "RELOAD_MIN_S", 0.02)
    manifest = onnx_bundle(tmp_path / "bundle", 3)
    graph = tmp_path / "bundle" / "model" / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1])
    changes = []
    runner = InlineRunner(tmp_path / "bundle", manifest.digest, on_change=lambda: changes.append(1))
    await runner.tried.wait()
    assert "model/model.onnx" in runner.error
    with pytest.raises(NoReadyReplica):
        runner.run_now(INPUTS)
    graph.write_bytes(whole)
    await until(lambda: runner.is_ready)
    assert (runner.error, len(changes) > 1) == ("", True)
    assert runner.run_now(INPUTS)["y"].tolist() == [3.0]
    runner.close()


async def test_snapshot_that_cannot_be_applied_is_not_the_end_of_following(tmp_path):
    class Table(RouteTable):
        tried = 0

        def apply(self, snapshot):
            self.tried += 1
            if self.tried == 1:
                raise KeyError("a kind of field from the future")
            super().apply(snapshot)

    async def control(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = msgspec.msgpack.encode(Snapshot(revision="1", routes=()))
        writer.write(b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    table = Table(lambda: None)
    server = await asyncio.start_server(control, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    follower = Follower(
        table, gateway="g", address="", environment="dev", state_dir=tmp_path,
        control_url=f"http://127.0.0.1:{port}", changed=asyncio.Event(), credential=str,
        telemetry=Telemetry(table.counters, tmp_path, "g"),
    )  # fmt: skip
    following = asyncio.create_task(follower.run())
    await until(lambda: table.revision == "1")
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    server.close()
