"""The gateway's own HTTP/2 and gRPC, frame by frame: what callers may do, must not do, and the end."""

import asyncio
import contextlib
import gzip
import struct
import sys
from pathlib import Path

import pytest

from shipway.gateway.grpc import connection, frames, http2
from shipway.gateway.grpc.frames import Fault, Kind, Setting

sys.path.insert(0, str(Path(__file__).parent))
from raw_http2 import LIMIT, grpc_door, message, until


@pytest.fixture
async def door():
    async with grpc_door() as made:
        yield made


async def test_a_call_is_answered_with_headers_message_and_trailers(door):
    caller = await door()
    for _ in range(3):  # the second head is all index, the third is known
        status, headers, data = await caller.answer(caller.call("/e/Now"))
        assert (status, data) == (0, message(b"hello"))
        assert headers[":status"] == "200"
        assert headers["content-type"] == "application/grpc"
    assert door.service.timeouts == [None] * 3


async def test_many_calls_at_once_each_get_their_own_answer(door):
    caller = await door()
    slow = [caller.call("/e/Slow", b"%d" % number) for number in range(100)]
    fast = [caller.call("/e/Now", b"%d" % number) for number in range(100)]
    answers = {}
    while len(answers) < 200:
        kind, _, number, payload = await caller.frame()
        if kind == Kind.DATA:
            answers[number] = payload
        if len(answers) == 100:
            assert set(answers) == set(fast)
            door.service.released.set()
    for calls in (slow, fast):
        assert [answers[n] for n in calls] == [message(b"%d" % n) for n in range(100)]


async def test_bytes_may_come_one_by_one_padded_and_with_priority(door):
    caller = await door()
    block = caller.block("/e/Now")
    payload = b"\x03" + b"\0\0\0\0\x10" + block[:8] + b"\0\0\0"
    head = frames.frame(Kind.HEADERS, frames.PADDED | frames.PRIORITY, 1, payload)
    rest = frames.frame(Kind.CONTINUATION, frames.END_HEADERS, 1, block[8:])
    data = b"\x02" + message(b"hello") + b"\0\0"
    stream = head + rest + frames.frame(Kind.DATA, frames.PADDED | frames.END_STREAM, 1, data)
    for byte in stream:
        caller.send(bytes((byte,)))
        await caller.writer.drain()
    assert (await caller.answer(1))[::2] == (0, message(b"hello"))


async def test_large_messages_pass_both_ways_within_the_windows(door):
    caller = await door((Setting.INITIAL_WINDOW_SIZE, 1_000))
    number = caller.open("/e/Now")
    whole = message(bytes(range(256)) * 10_000)
    room = {0: 65535, number: http2.STREAM_WINDOW_BYTES}
    sent, data = 0, b""
    while len(data) < len(whole):
        while sent < len(whole) and (size := min(16384, *room.values(), len(whole) - sent)) > 0:
            flags = frames.END_STREAM if sent + size == len(whole) else 0
            caller.send(frames.frame(Kind.DATA, flags, number, whole[sent : sent + size]))
            sent += size
            room = {key: left - size for key, left in room.items()}
        kind, _, found, payload = await caller.frame()
        if kind == Kind.WINDOW_UPDATE:
            room[found] += frames.uint(payload)
        elif kind == Kind.DATA:
            assert len(payload) <= 1_000
            data += payload
            size = len(payload)
            caller.send(frames.window_update(number, size), frames.window_update(0, size))
    assert data == whole
    assert (await caller.answer(number))[0] == 0


async def test_a_caller_that_takes_nothing_holds_up_nobody_else(door):
    caller = await door((Setting.INITIAL_WINDOW_SIZE, 10))
    stuck = caller.call("/e/Big")
    status, _, data = await caller.answer(caller.call("/e/Now", b"hi"))
    assert (status, data) == (0, message(b"hi"))
    caller.send(frames.window_update(stuck, 1_000_000), frames.window_update(0, 1_000_000))
    status, _, data = await caller.answer(stuck)
    assert (status, len(data)) == (0, 200_005 - 10)


async def test_the_callers_deadline_travels(door):
    caller = await door()
    for text in ("2500m", "3S", "1H", "100000u"):
        assert (await caller.answer(caller.call("/e/Now", grpc_timeout=text)))[0] == 0
    left = door.service.timeouts
    assert [round(seconds, 1) for seconds in left] == [2.5, 3.0, 3600.0, 0.1]
    status, headers, _ = await caller.answer(caller.call("/e/Now", grpc_timeout="0n"))
    assert status == 4
    assert "deadline" in headers["grpc-message"]
    assert (await caller.answer(caller.call("/e/Now", grpc_timeout="soon")))[0] == 3


async def test_a_reset_call_is_cancelled_and_so_are_those_of_a_lost_connection(door):
    caller = await door()
    number = caller.call("/e/Slow")
    await until(lambda: door.service.started)
    caller.send(frames.reset(number, Fault.CANCEL))
    async with asyncio.timeout(5):
        await door.service.cancelled.wait()
    door.service.cancelled.clear()
    caller.call("/e/Slow")
    await until(lambda: door.service.started == 2)
    caller.writer.transport.abort()
    async with asyncio.timeout(5):
        await door.service.cancelled.wait()


async def test_a_message_over_the_limit_is_refused_before_it_is_here(door):
    caller = await door()
    number = caller.open("/e/Now")
    caller.data(number, struct.pack(">BI", 0, LIMIT + 1) + bytes(100), last=False)
    status, headers, _ = await caller.answer(number)
    assert status == 8
    assert str(LIMIT) in headers["grpc-message"]
    assert frames.uint((await caller.until(Kind.RST_STREAM))[2]) == Fault.NO_ERROR
    assert (await caller.answer(caller.call("/e/Now")))[0] == 0


async def test_compressed_messages_are_read_and_bombs_are_not(door):
    caller = await door()
    for encoding, squeeze in (("gzip", gzip.compress), ("deflate", __import__("zlib").compress)):
        number = caller.open("/e/Now", grpc_encoding=encoding)
        caller.data(number, message(squeeze(b"hello" * 100), compressed=1))
        assert (await caller.answer(number))[::2] == (0, message(b"hello" * 100))
        number = caller.open("/e/Now", grpc_encoding=encoding)
        caller.data(number, message(squeeze(bytes(LIMIT * 10)), compressed=1))
        assert (await caller.answer(number))[0] == 8
        number = caller.open("/e/Now", grpc_encoding=encoding)
        caller.data(number, message(squeeze(b"hello")[:-6], compressed=1))
        assert (await caller.answer(number))[0] == 3
    number = caller.open("/e/Now", grpc_encoding="snappy")
    caller.data(number, message(b"x", compressed=1))
    status, headers, _ = await caller.answer(number)
    assert (status, headers["grpc-accept-encoding"]) == (12, "identity,gzip,deflate")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 3),
        (b"\0\0", 3),
        (message(b"a") + message(b"b"), 3),
        (message(b"abc")[:-1], 3),
        (message(b"a", compressed=1), 3),
    ],
)
async def test_a_call_without_exactly_one_message_is_refused(door, data, status):
    caller = await door()
    number = caller.open("/e/Now")
    caller.data(number, data)
    assert (await caller.answer(number))[0] == status


async def test_what_is_not_a_call_of_a_known_method_is_refused_in_grpcs_words(door):
    caller = await door()
    status, headers, _ = await caller.answer(caller.call("/e/Nothing"))
    assert status == 12
    assert "/e/Nothing" in headers["grpc-message"]
    _, headers, _ = await caller.answer(caller.call("/e/Now", content_type="text/html"))
    assert headers[":status"] == "415"
    assert (await caller.answer(caller.call("/e/Now")))[0] == 0


async def test_a_stream_answers_each_request_in_order_and_ends_with_its_caller(door):
    caller = await door()
    number = caller.open("/e/Stream")
    whole = b"".join(message(text) for text in (b"a", b"slow b", b"c"))
    caller.data(number, whole[:3], last=False)
    caller.data(number, whole[3:], last=False)
    _, _, payload = await caller.until(Kind.HEADERS)
    assert dict(caller.decoder.decode(payload))["content-type"] == "application/grpc"
    assert (await caller.until(Kind.DATA))[2] == message(b"a")
    door.service.released.set()
    assert (await caller.until(Kind.DATA))[2] == message(b"slow b")
    assert (await caller.until(Kind.DATA))[2] == message(b"c")
    caller.data(number, message(b"d"))
    assert (await caller.answer(number))[::2] == (0, message(b"d"))


async def test_a_stream_takes_many_more_requests_than_it_works_on_at_once(door):
    caller = await door()
    number = caller.open("/e/Stream")
    texts = [b"slow %d" % n for n in range(1000)]
    caller.data(number, b"".join(map(message, texts)))
    await until(lambda: door.service.started == 64)
    door.service.released.set()
    status, _, data = await caller.answer(number)
    assert (status, data) == (0, b"".join(map(message, texts)))


async def test_a_stream_whose_caller_reads_nothing_stops_taking_requests(door):
    caller = await door((Setting.INITIAL_WINDOW_SIZE, 0))
    number = caller.open("/e/Stream")
    texts = [b"%d" % n for n in range(500)]
    caller.data(number, b"".join(map(message, texts)))
    _, _, _ = await caller.until(Kind.HEADERS)
    caller.send(frames.window_update(number, 1_000_000))
    status, _, data = await caller.answer(number)
    assert (status, data) == (0, b"".join(map(message, texts)))


async def test_a_stream_past_its_deadline_ends(door):
    caller = await door()
    number = caller.open("/e/Stream", grpc_timeout="150m")
    caller.data(number, message(b"slow"), last=False)
    assert (await caller.answer(number))[0] == 4
    async with asyncio.timeout(5):
        await door.service.cancelled.wait()


async def test_a_watch_hears_of_changes_only(door):
    caller = await door()
    caller.call("/e/Watch")
    await caller.until(Kind.HEADERS)
    assert (await caller.until(Kind.DATA))[2] == message(b"one")
    door.service.state = b"two"
    assert (await caller.until(Kind.DATA))[2] == message(b"two")


async def test_stopping_refuses_new_calls_and_answers_those_it_has(door):
    caller, idle = await door(), await door()
    slow = caller.call("/e/Slow")
    await until(lambda: door.service.started)
    await idle.answer(idle.call("/e/Now"))
    watching = idle.call("/e/Watch")
    await idle.until(Kind.HEADERS)
    await idle.until(Kind.DATA)
    door.stopping.set()
    assert await caller.goaway() == Fault.NO_ERROR
    assert (await idle.answer(watching))[0] == 14
    refused = caller.call("/e/Now")
    assert (await caller.answer(refused))[0] == "reset REFUSED_STREAM"
    door.service.released.set()
    assert (await caller.answer(slow))[::2] == (0, message(b"hello"))
    async with asyncio.timeout(5):
        assert await caller.reader.read() == b""
        await door.serving


async def test_a_stream_open_when_the_gateway_stops_gets_its_replies_and_then_unavailable(door):
    caller = await door()
    number = caller.open("/e/Stream")
    caller.data(number, message(b"a") + message(b"slow b"), last=False)
    await until(lambda: door.service.started)
    door.stopping.set()
    await caller.until(Kind.HEADERS)
    await caller.until(Kind.DATA)
    assert await caller.goaway() == Fault.NO_ERROR
    caller.data(number, message(b"late"), last=False)
    door.service.released.set()
    status, headers, data = await caller.answer(number)
    assert (status, data) == (14, message(b"slow b"))
    assert "stopping" in headers["grpc-message"]


async def test_a_ping_comes_back_and_settings_are_confirmed(door):
    caller = await door()
    caller.send(frames.frame(Kind.PING, 0, 0, b"12345678"))
    while True:
        kind, flags, _, payload = await caller.frame()
        if kind == Kind.PING:
            break
    assert (flags, payload) == (frames.ACK, b"12345678")


async def test_a_caller_with_a_small_header_table_is_told_that_it_is_unused(door):
    caller = await door((Setting.HEADER_TABLE_SIZE, 0))
    caller.decoder.max_allowed_table_size = 0
    caller.decoder.header_table_size = 0
    for _ in range(2):
        assert (await caller.answer(caller.call("/e/Now")))[0] == 0


async def test_somebody_who_speaks_http1_is_told_where_they_are(door):
    caller = await door(greets=False)
    caller.send(b"GET /v2 HTTP/1.1\r\nhost: here\r\n\r\n")
    text = await caller.reader.read()
    assert b"HTTP/1.1 400" in text
    assert b"speaks gRPC" in text


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (lambda c: struct.pack(">BHBBI", 1, 0, 0, 0, 1), Fault.FRAME_SIZE_ERROR),
        (lambda c: frames.frame(Kind.DATA, 0, 1, b"x"), Fault.PROTOCOL_ERROR),
        (lambda c: frames.frame(Kind.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff"), Fault.COMPRESSION_ERROR),
        (lambda c: frames.frame(Kind.HEADERS, 4, 2, c.block("/e/Now")), Fault.PROTOCOL_ERROR),
        (lambda c: frames.frame(Kind.HEADERS, 0, 1, b"") + frames.frame(Kind.PING, 0, 0, bytes(8)),
         Fault.PROTOCOL_ERROR),
        (lambda c: frames.frame(Kind.CONTINUATION, 4, 1, b""), Fault.PROTOCOL_ERROR),
        (lambda c: frames.frame(Kind.PUSH_PROMISE, 4, 1, b""), Fault.PROTOCOL_ERROR),
        (lambda c: frames.frame(Kind.PING, 0, 0, b"1"), Fault.FRAME_SIZE_ERROR),
        (lambda c: frames.frame(Kind.SETTINGS, 0, 0, b"1"), Fault.FRAME_SIZE_ERROR),
        (lambda c: frames.window_update(0, 2**31 - 1), Fault.FLOW_CONTROL_ERROR),
        (lambda c: frames.window_update(0, 0), Fault.PROTOCOL_ERROR),
        (lambda c: frames.settings([(Setting.INITIAL_WINDOW_SIZE, 2**31)]), Fault.FLOW_CONTROL_ERROR),
        (lambda c: frames.frame(Kind.PING, 0, 0, bytes(8)) * 3000, Fault.ENHANCE_YOUR_CALM),
        (lambda c: frames.settings([]) * 3000, Fault.ENHANCE_YOUR_CALM),
        (lambda c: frames.frame(Kind.HEADERS, 0, 1, b"")
         + frames.frame(Kind.CONTINUATION, 0, 1, b"x" * 16000) * 6, Fault.ENHANCE_YOUR_CALM),
        (lambda c: frames.frame(Kind.HEADERS, 4, 1, c.block("/e/Stream"))
         + frames.frame(Kind.DATA, frames.PADDED, 1, b"\x05"), Fault.PROTOCOL_ERROR),
    ],
)  # fmt: skip
async def test_a_broken_protocol_ends_the_connection_with_its_name(door, sent, fault):
    caller = await door()
    caller.send(sent(caller))
    assert await caller.goaway() == fault
    async with asyncio.timeout(5):
        await caller.reader.read()
    other = await door()
    assert (await other.answer(other.call("/e/Now")))[0] == 0


async def test_rapid_resets_end_the_connection(door):
    caller = await door()
    for _ in range(3000):
        number = caller.open("/e/Now")
        caller.send(frames.reset(number, Fault.CANCEL))
    assert await caller.goaway() == Fault.ENHANCE_YOUR_CALM


async def test_more_calls_than_allowed_at_once_are_refused_one_by_one(door):
    caller = await door()
    calls = [caller.call("/e/Slow") for _ in range(http2.MAX_STREAMS + 1)]
    assert (await caller.answer(calls[-1]))[0] == "reset REFUSED_STREAM"
    door.service.released.set()
    assert (await caller.answer(calls[0]))[0] == 0


async def test_silent_peers_are_asked_and_dropped_and_unfinished_calls_given_up(door, monkeypatch):
    monkeypatch.setattr(connection, "UNFINISHED_S", 0.1)
    caller = await door()
    number = caller.open("/e/Now")
    assert (await caller.answer(number))[0] == "reset CANCEL"
    monkeypatch.setattr(connection, "KEEPALIVE_S", 0.1)
    monkeypatch.setattr(connection, "GONE_S", 0.1)
    assert (await caller.until(Kind.PING))[2] == bytes(8)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert b"" in (await caller.reader.read(), b"")
    await until(caller.reader.at_eof)


async def test_an_idle_connection_is_closed_in_words(door, monkeypatch):
    monkeypatch.setattr(connection, "IDLE_S", 0.1)
    caller = await door()
    assert await caller.goaway() == Fault.NO_ERROR
