"""What hostile callers send to the gateway's HTTP/2, and that it costs others nothing."""

import asyncio
import contextlib
import gzip
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from shipway.core.arrival import Patience
from shipway.gateway.crowd import Crowd
from shipway.gateway.grpc import connection, frames, http2
from shipway.gateway.grpc.frames import Fault, Kind, Setting
from shipway.gateway.grpc.heads import HEAD_LIMIT_BYTES

sys.path.insert(0, str(Path(__file__).parent))
from raw_http2 import LIMIT, grpc_door, message, until


@pytest.fixture
async def door():
    async with grpc_door() as made:
        yield made


def literal(name, value):
    """A header that is not indexed, in plain letters."""
    return frames.header_block([(name, value)])


def head(caller, *more, path="/e/Now"):
    return caller.block(path) + b"".join(literal(*header) for header in more)


def opening(number, block):
    return frames.frame(Kind.HEADERS, frames.END_HEADERS, number, block)


async def test_calls_that_are_taken_back_at_once_end_the_connection_though_each_was_begun(door):
    caller = await door()
    for _ in range(3000):
        caller.send(frames.reset(caller.call("/e/Slow"), Fault.CANCEL))
    assert await caller.goaway() == Fault.ENHANCE_YOUR_CALM
    await until(lambda: door.service.cancelled.is_set())
    assert door.service.started <= http2.MAX_RESETS + 1


async def test_callers_may_take_calls_back_now_and_then(door):
    caller = await door()
    for _ in range(http2.MAX_RESETS):
        caller.send(frames.reset(caller.call("/e/Slow"), Fault.CANCEL))
    assert (await caller.answer(caller.call("/e/Now")))[0] == 0


@pytest.mark.parametrize(
    "flood",
    [
        lambda c: frames.frame(Kind.PING, 0, 0, bytes(8)),
        lambda c: frames.settings([]),
        lambda c: frames.frame(Kind.PRIORITY, 0, 1, bytes(5)),
        lambda c: frames.frame(Kind.GOAWAY, 0, 0, bytes(8)),
        lambda c: frames.reset(1, Fault.CANCEL),
        lambda c: frames.window_update(0, 1),
        lambda c: frames.window_update(7, 1),
        lambda c: frames.FRAME_HEAD.pack(0, 0, 0x4F, 0, 0),
    ],
    ids=["pings", "settings", "priorities", "goaways", "resets of nothing", "windows", "windows of nothing",
         "unknown frames"],
)  # fmt: skip
async def test_frames_that_bring_no_work_end_the_connection(door, flood):
    caller = await door()
    caller.send(flood(caller) * (http2.MAX_NUISANCE + 2))
    assert await caller.goaway() == Fault.ENHANCE_YOUR_CALM


async def test_empty_frames_of_a_call_end_the_connection(door):
    caller = await door()
    number = caller.open("/e/Stream")
    caller.send(frames.frame(Kind.DATA, 0, number, b"") * (http2.MAX_NUISANCE + 2))
    assert await caller.goaway() == Fault.ENHANCE_YOUR_CALM


async def test_a_head_in_many_pieces_ends_the_connection(door):
    caller = await door()
    caller.send(frames.frame(Kind.HEADERS, 0, 1, b""))
    caller.send(frames.frame(Kind.CONTINUATION, 0, 1, b"") * (http2.MAX_NUISANCE + 2))
    assert await caller.goaway() == Fault.ENHANCE_YOUR_CALM


async def test_a_head_over_the_bound_ends_the_connection(door):
    caller = await door()
    caller.send(frames.frame(Kind.HEADERS, 0, 1, b"x" * 16000))
    caller.send(frames.frame(Kind.CONTINUATION, 0, 1, b"x" * 1000))
    assert await caller.goaway() == Fault.ENHANCE_YOUR_CALM


BOMB = b"\x40" + literal(b"x", b"y" * 4000)[1:] + b"\xbe" * 100
"""A header that is kept in the table, and named a hundred times: 4 KB become 400."""


@pytest.mark.parametrize(
    "block",
    [
        BOMB,
        literal(b"x", b"") * (HEAD_LIMIT_BYTES // 33 + 1),
        b"\x20" * 3,
        b"\x3f\xe1\x1f" * 3,
        b"\x40\x7f" + b"\xff" * 1000,
    ],
    ids=["bomb", "header list", "table updates", "long table updates", "endless integer"],
)
async def test_a_head_that_becomes_large_ends_the_connection_in_few_words(door, block):
    caller = await door()
    caller.send(opening(1, block))
    _, _, payload = await caller.until(Kind.GOAWAY)
    assert frames.uint(payload[4:8]) == Fault.COMPRESSION_ERROR
    assert len(payload) < 200


async def test_table_updates_cost_no_time(door):
    caller = await door()
    began = time.process_time()
    caller.send(opening(1, b"\x20" * HEAD_LIMIT_BYTES))
    assert await caller.goaway() == Fault.COMPRESSION_ERROR
    assert time.process_time() - began < 0.05


@pytest.mark.parametrize(
    "more",
    [
        [(b"", b"x")],
        [(b"X-Upper", b"x")],
        [(b"x y", b"x")],
        [(b"x\r\ny", b"x")],
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\0b")],
        [(b"connection", b"close")],
        [(b"transfer-encoding", b"chunked")],
        [(b":path", b"/e/Big")],
        [(b":unknown", b"x")],
        [(b"authorization", b"a"), (b"authorization", b"b")],
        [(b"content-type", b"application/grpc")],
        [(b"grpc-timeout", b"1S"), (b"grpc-timeout", b"2S")],
    ],
    ids=str,
)
async def test_headers_that_are_none_or_mean_two_things_end_the_connection(door, more):
    caller = await door()
    caller.send(opening(1, head(caller, *more)))
    assert await caller.goaway() == Fault.PROTOCOL_ERROR
    assert not door.service.timeouts


async def test_metadata_that_comes_again_is_a_list(door):
    caller = await door()
    caller.send(opening(1, head(caller, (b"x-tag", b"a"), (b"x-tag", b"b"))))
    caller.data(1, message(b"hello"))
    assert (await caller.answer(1))[0] == 0


async def test_windows_moved_thousands_of_times_in_a_frame_are_moved_once(door):
    caller = await door((Setting.INITIAL_WINDOW_SIZE, 0))
    stuck = [caller.call("/e/Big") for _ in range(200)]
    await caller.answer(caller.call("/e/Nothing"))
    turns = [(Setting.INITIAL_WINDOW_SIZE, size) for size in (0, 1)] * 1300
    began = time.process_time()
    for _ in range(20):
        caller.send(frames.settings([*turns, (Setting.INITIAL_WINDOW_SIZE, 0)]))
    caller.send(frames.frame(Kind.PING, 0, 0, bytes(8)))
    while (await caller.frame())[0] != Kind.PING:
        pass
    assert time.process_time() - began < 1.0
    assert len(stuck) == 200


@pytest.mark.parametrize(
    "sent",
    [
        lambda number: frames.window_update(number, 2**31 - 1),
        lambda number: frames.window_update(0, 2**31 - 1),
        lambda number: frames.settings([(Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)]),
    ],
    ids=["of a call", "of the connection", "by settings"],
)
async def test_a_window_over_its_largest_ends_the_connection(door, sent):
    caller = await door()
    number = caller.open("/e/Stream")
    caller.send(frames.window_update(number, 10_000), sent(number))
    assert await caller.goaway() == Fault.FLOW_CONTROL_ERROR


async def test_data_beyond_the_window_ends_the_connection(door):
    caller = await door()
    number = caller.open("/e/Stream")
    size = http2.STREAM_WINDOW_BYTES + 16384
    caller.data(number, b"\0\0\x20\0\0" + bytes(size), last=False)
    while (await caller.frame())[0] != Kind.WINDOW_UPDATE:
        pass
    stuck = await door()
    number = stuck.open("/e/Stream")
    stuck.data(number, message(b"slow") * 70 + bytes(2 * size), last=False)
    assert await stuck.goaway() == Fault.FLOW_CONTROL_ERROR


async def test_a_bomb_in_a_message_is_not_unpacked(door):
    caller = await door()
    for bomb in (gzip.compress(bytes(LIMIT + 1)), gzip.compress(bytes(200_000_000), 1)):
        number = caller.open("/e/Now", grpc_encoding="gzip")
        tracemalloc.start()
        caller.data(number, message(bomb, compressed=1))
        status, *_ = await caller.answer(number)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert status == 8
        assert most < 4 * LIMIT


@pytest.mark.parametrize(
    "begun", [b"", b"PRI * HT", frames.PREFACE + frames.frame(Kind.HEADERS, 0, 1, b"")]
)
async def test_a_peer_that_does_not_get_beyond_its_beginning_is_dropped(door, monkeypatch, begun):
    monkeypatch.setattr(connection, "BEGINNING_S", 0.3)
    caller = await door(greets=False)
    caller.send(begun)
    closed = asyncio.ensure_future(_closed(caller))
    while not closed.done():
        if begun.startswith(frames.PREFACE):
            caller.send(frames.frame(Kind.CONTINUATION, 0, 1, b""))
        await asyncio.wait([closed], timeout=0.1)
    await closed


async def _closed(caller):
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while await caller.reader.read(65536):
                pass


@pytest.mark.parametrize("path", ["/e/Now", "/e/Stream", "/e/Watch"])
async def test_a_call_whose_message_comes_byte_by_byte_is_given_up(path):
    patience = Patience(grace_s=0.3, least_bytes_per_s=1000)
    async with grpc_door(Crowd(patience)) as door:
        caller = await door()
        number = caller.open(path)
        caller.data(number, message(bytes(1000))[:100], last=False)
        answered = asyncio.ensure_future(caller.answer(number))
        while not answered.done():
            caller.data(number, b"x", last=False)
            await asyncio.wait([answered], timeout=0.05)
        assert answered.result()[0] == "reset CANCEL"


async def test_a_call_whose_reply_is_taken_byte_by_byte_is_given_up():
    patience = Patience(grace_s=0.3, least_bytes_per_s=1000)
    async with grpc_door(Crowd(patience)) as door:
        caller = await door((Setting.INITIAL_WINDOW_SIZE, 10))
        number = caller.call("/e/Big")
        answered = asyncio.ensure_future(caller.answer(number))
        while not answered.done():
            caller.send(frames.window_update(number, 1))
            await asyncio.wait([answered], timeout=0.05)
        assert answered.result()[0] == "reset CANCEL"


async def test_a_stream_may_rest_between_its_messages_and_wait_for_slow_replies():
    async with grpc_door(Crowd(Patience(grace_s=1.6, least_bytes_per_s=1e9))) as door:
        caller = await door()
        number = caller.open("/e/Stream")
        caller.data(number, message(b"slow") * 100, last=False)
        await asyncio.sleep(2.4)
        door.service.released.set()
        for _ in range(100):
            await caller.until_data()
        await asyncio.sleep(2.4)
        caller.data(number, message(b"end")[:3], last=False)
        await asyncio.sleep(0.6)  # a look finds it in the middle of its message
        caller.data(number, message(b"end")[3:])
        assert (await caller.answer(number))[0] == 0


async def test_unfinished_messages_are_bounded_over_all_connections():
    crowd = Crowd(unfinished_limit_bytes=2_000_000)
    async with grpc_door(crowd) as door:
        callers = [await door() for _ in range(3)]
        begun = message(bytes(1_000_000))[:900_000]
        numbers = [caller.open("/e/Now") for caller in callers]
        for caller, number in zip(callers[:2], numbers[:2], strict=True):
            caller.data(number, begun, last=False)
        await until(lambda: crowd.unfinished_bytes == 1_800_000)
        callers[2].data(numbers[2], begun, last=False)
        status, headers, _ = await callers[2].answer(numbers[2])
        assert (status, headers["grpc-message"][:15]) == (8, "The gateway hol")
        callers[0].data(numbers[0], bytes(100_005))
        await callers[0].until_data()
        callers[1].send(frames.reset(numbers[1], Fault.CANCEL))
        await until(lambda: not crowd.unfinished_bytes)


async def test_a_flood_of_connections_takes_the_place_of_the_silent_ones_alone():
    crowd = Crowd(most=8)
    async with grpc_door(crowd) as door:
        working = await door()
        number = working.call("/e/Slow")
        await until(lambda: door.service.started)
        for _ in range(40):
            await door()
        caller = await door()
        assert (await caller.answer(caller.call("/e/Now")))[0] == 0
        assert len(crowd) <= 8
        door.service.released.set()
        assert (await working.answer(number))[0] == 0
