"""What hostile callers send to the gateway's HTTP/1.1, and that it costs others nothing."""

import asyncio
import sys
import tracemalloc
from pathlib import Path

import pytest

from shipway.core.arrival import Patience
from shipway.gateway.crowd import Crowd
from shipway.wire.head import HEAD_LIMIT_BYTES, MAX_FIELDS, TARGET_LIMIT_BYTES

sys.path.insert(0, str(Path(__file__).parent))
from raw_http import post, serving

HEAD = b"POST /p HTTP/1.1\r\nhost: a\r\n"
SECOND = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

AMBIGUOUS = {
    "both framings": HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings, turned": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "framing in a folded line": HEAD + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a folded line": HEAD + b"x: a\r\n b\r\n\r\n",
    "another coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity before chunked": HEAD + b"transfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "gzip before chunked": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": HEAD + b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a tab of another kind": HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /p HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two equal lengths": HEAD + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "two lengths": HEAD + b"content-length: 3\r\ncontent-length: 0\r\n\r\nabc",
    "a signed length": HEAD + b"content-length: +3\r\n\r\nabc",
    "a hexadecimal length": HEAD + b"content-length: 0x3\r\n\r\nabc",
    "a list of lengths": HEAD + b"content-length: 3, 3\r\n\r\nabc",
    "a length of two words": HEAD + b"content-length: 3 3\r\n\r\nabc",
    "a length with a line": HEAD + b"content-length: 1_0\r\n\r\n0123456789",
    "no length": HEAD + b"content-length: \r\n\r\nabc",
    "a length over 64 bits": HEAD + b"content-length: 18446744073709551619\r\n\r\nabc",
    "lines without CR": b"POST /p HTTP/1.1\nhost: a\ncontent-length: 0\n\n",
    "a header after LF": HEAD + b"x: a\ncontent-length: 3\r\n\r\nabc",
    "a header after CR": HEAD + b"x: a\rcontent-length: 3\r\n\r\nabc",
    "an end without CR": HEAD + b"x: a\r\n\n",
    "chunk sizes without CR": CHUNKED + b"3\nabc\n0\n\n",
    "a chunk extension with LF": CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a chunk extension with CR": CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a chunk of 0x3": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk of +3": CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n",
    "a chunk of -3": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "a chunk of nothing": CHUNKED + b"\r\nabc\r\n0\r\n\r\n",
    "a space before a chunk's size": CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n",
    "a chunk over 64 bits": CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "a length among the trailers": CHUNKED + b"0\r\ncontent-length: 4\r\n\r\n",
    "HTTP/0.9": b"GET /p\r\n\r\n",
    "HTTP/2.0 in plain words": b"GET /p HTTP/2.0\r\nhost: a\r\n\r\n",
    "HTTP/1.2": b"GET /p HTTP/1.2\r\nhost: a\r\n\r\n",
    "HTTP/01.1": b"GET /p HTTP/01.1\r\nhost: a\r\n\r\n",
    "a space in a name": HEAD + b"x y: a\r\n\r\n",
    "NUL in a name": HEAD + b"x\0y: a\r\n\r\n",
    "an empty name": HEAD + b": a\r\n\r\n",
    "a space before a name": b"POST /p HTTP/1.1\r\n host: a\r\n\r\n",
    "NUL in a value": HEAD + b"x: a\0b\r\n\r\n",
    "ESC in a value": HEAD + b"x: a\x1b[2Jb\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
    "NUL in the target": b"GET /a\0b HTTP/1.1\r\nhost: a\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two credentials": HEAD + b"authorization: a\r\nauthorization: b\r\n\r\n",
    "two content types": HEAD + b"content-type: text/csv\r\ncontent-type: text/html\r\n\r\n",
    "a tunnel": b"CONNECT inside:80 HTTP/1.1\r\nhost: a\r\n\r\n",
    "a method nobody knows": b"SMUGGLE / HTTP/1.1\r\nhost: a\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_what_two_servers_could_read_in_two_ways_is_refused_and_ends_the_connection(data):
    async with serving() as (application, call, *_):
        caller = await call(data + SECOND)
        assert (await caller.answer())[0] == 400
        assert await caller.is_closed()
        assert application.started == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"y" * TARGET_LIMIT_BYTES + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
        (b"GET /" + b"y" * 70_000, 414),
        (HEAD + b"x: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (HEAD + b"x: " + b"y" * 70_000, 431),
        (HEAD + b"x: y\r\n" * (MAX_FIELDS + 1) + b"\r\n", 431),
        (b"\r\n" * 40_000, 431),
        (CHUNKED + b"0\r\nx: " + b"y" * 400_000, 431),
        (CHUNKED + b"0\r\n" + b"x: y\r\n" * (MAX_FIELDS + 1) + b"\r\n", 431),
        (CHUNKED + b"3;" + b"y" * 400_000, 431),
    ],
    ids=["target", "endless target", "header", "endless header", "headers", "empty lines",
         "endless trailer", "trailers", "endless chunk extension"],
)  # fmt: skip
async def test_a_head_without_end_is_refused_as_too_large(data, status):
    async with serving() as (application, call, *_):
        caller = await call(data)
        assert (await caller.answer())[0] == status
        assert await caller.is_closed()
        assert application.started == 0


async def test_an_endless_trailer_holds_no_more_than_a_head_may():
    async with serving() as (_, call, *_):
        caller = await call(CHUNKED + b"1\r\na\r\n0\r\nx: ")
        tracemalloc.start()
        try:
            for _ in range(400):
                caller.send(b"y" * 65536)
                await caller.writer.drain()
        except ConnectionError:
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 20 * HEAD_LIMIT_BYTES


async def test_trailers_are_no_headers_of_the_next_request():
    async with serving() as (application, call, *_):
        trailers = b"authorization: stolen\r\nx-shipway-actor: somebody\r\n"
        caller = await call(CHUNKED + b"1\r\na\r\n0\r\n" + trailers + b"\r\n" + post(b"/next", b""))
        assert (await caller.answer())[0] == (await caller.answer())[0] == 200
        chunked, following = application.requests
        assert set(chunked.headers) == {b"host", b"transfer-encoding"}
        assert set(following.headers) == {b"host", b"content-length"}


async def test_a_whole_url_names_the_same_route_as_its_path():
    async with serving() as (_, call, *_):
        caller = await call(b"GET http://elsewhere:1/p/q?a HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await caller.answer())[2] == b"GET /p/q "


@pytest.mark.parametrize("escaped", [b"%2f", b"%2F"])
async def test_an_escaped_slash_is_part_of_a_name(escaped):
    async with serving() as (_, call, *_):
        caller = await call(b"GET /a" + escaped + b"b%2e HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await caller.answer())[2] == b"GET /a" + escaped + b"b. "


async def test_a_header_that_comes_again_is_a_list():
    async with serving() as (application, call, *_):
        caller = await call(HEAD + b"accept: text/csv\r\nAccept: */*\r\n\r\n")
        await caller.answer()
        assert application.requests[0].headers[b"accept"] == b"text/csv, */*"


@pytest.mark.parametrize("wish", [b"websocket", b"h2c"])
async def test_a_wish_to_upgrade_is_passed_over_and_answered_once(wish):
    upgrading = b"connection: upgrade\r\nupgrade: " + wish + b"\r\ncontent-length: 2\r\n\r\nab"
    async with serving() as (_, call, *_):
        caller = await call(HEAD + upgrading + post(b"/next", b"c"))
        assert (await caller.answer())[2] == b"POST /p ab"
        assert (await caller.answer())[2] == b"POST /next c"


async def test_a_promise_to_read_is_no_answer_to_the_request_before():
    async with serving() as (application, call, *_):
        wanting = post(b"/b", b"xyz", b"expect: 100-continue")
        caller = await call(post(b"/slow", b"1") + wanting)
        await asyncio.sleep(0.05)
        application.released.set()
        assert (await caller.answer())[2] == b"slow 1"
        assert (await caller.answer())[2] == b"POST /b xyz"


async def test_a_promise_is_made_neither_to_http10_nor_for_a_body_that_is_refused():
    old = b"POST /p HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\na"
    large = HEAD + b"expect: 100-continue\r\ncontent-length: 1001\r\n\r\n"
    async with serving() as (_, call, *_):
        assert (await (await call(old)).answer())[0] == 200
        assert (await (await call(large)).answer())[0] == 413


async def test_what_follows_the_end_of_a_connection_is_not_looked_at():
    async with serving() as (application, call, *_):
        caller = await call(HEAD + b"connection: close\r\n\r\n" + SECOND)
        assert (await caller.answer())[0] == 200
        assert await caller.is_closed()
        assert application.started == 1


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"POST /p HTTP/1.1\r\nho", b"z"),
        (HEAD + b"content-length: 100\r\n\r\n", b"z"),
        (CHUNKED, b"1\r\na\r\n"),
        (CHUNKED + b"0\r\n", b"x: y\r\n"),
    ],
    ids=["silence", "empty lines", "headers", "body", "chunks", "trailers"],
)
async def test_a_byte_now_and_then_does_not_keep_a_connection(begun, more):
    patience = Patience(idle_s=0.3, grace_s=0.2, least_bytes_per_s=1000, look_every_s=0.02)
    async with serving(crowd=Crowd(patience)) as (_, call, *_):
        caller = await call(begun)
        started = asyncio.get_running_loop().time()
        closed = asyncio.ensure_future(caller.is_closed())
        while not closed.done():
            caller.send(more)
            await asyncio.wait([closed], timeout=0.05)
        assert closed.result()
        assert asyncio.get_running_loop().time() - started < 3


async def test_a_body_that_comes_at_a_fair_rate_is_waited_for():
    patience = Patience(idle_s=5, grace_s=0.1, least_bytes_per_s=1000, look_every_s=0.02)
    async with serving(crowd=Crowd(patience)) as (_, call, *_):
        caller = await call(HEAD + b"content-length: 900\r\n\r\n")
        for _ in range(9):
            caller.send(b"x" * 100)
            await asyncio.sleep(0.05)
        assert (await caller.answer())[0] == 200


async def test_a_request_that_waited_for_an_answer_before_it_is_not_called_slow():
    patience = Patience(idle_s=5, grace_s=0.2, least_bytes_per_s=1e9, look_every_s=0.02)
    async with serving(crowd=Crowd(patience)) as (application, call, *_):
        caller = await call(post(b"/slow", b"1") + HEAD + b"content-length: 2\r\n\r\na")
        await asyncio.sleep(0.4)
        application.released.set()
        assert (await caller.answer())[2] == b"slow 1"
        await asyncio.sleep(0.05)
        caller.send(b"b")
        assert (await caller.answer())[2] == b"POST /p ab"


async def test_a_caller_that_reads_too_slowly_is_dropped_and_one_that_reads_is_not():
    patience = Patience(idle_s=0.4, least_bytes_per_s=1_000_000, look_every_s=0.05)
    crowd = Crowd(patience)
    async with serving(crowd=crowd) as (_, call, *_):
        slow, steady = await call(post(b"/huge", b"")), await call(post(b"/huge", b""))
        slow.writer.transport.pause_reading()
        received = 0
        while received < 16_000_000:
            piece = await steady.reader.read(1_000_000)
            assert piece
            received += len(piece)
            await asyncio.sleep(0.015)
        async with asyncio.timeout(5):
            while len(crowd) > 1:  # noqa: ASYNC110 - the server runs in this loop
                await asyncio.sleep(0.02)
        slow.writer.transport.resume_reading()


async def test_a_flood_of_connections_takes_the_place_of_the_silent_ones_alone():
    crowd = Crowd(most=8)
    async with serving(crowd=crowd) as (application, call, *_):
        working = await call(post(b"/slow", b"1"))
        while not application.started:  # noqa: ASYNC110 - the server runs in this loop
            await asyncio.sleep(0.01)
        flood = [await call(b"POST /p HTTP/1.1\r\n") for _ in range(40)]
        assert (await (await call(post(b"/p", b"2"))).answer())[0] == 200
        assert len(crowd) <= 8
        assert await flood[0].is_closed()
        application.released.set()
        assert (await working.answer())[2] == b"slow 1"


async def test_with_every_place_at_work_a_new_connection_is_the_one_that_goes():
    async with serving(crowd=Crowd(most=3)) as (application, call, *_):
        working = [await call(post(b"/slow", b"%d" % number)) for number in range(3)]
        while application.started < 3:  # noqa: ASYNC110 - the server runs in this loop
            await asyncio.sleep(0.01)
        assert await (await call()).is_closed()
        application.released.set()
        assert [(await caller.answer())[0] for caller in working] == [200] * 3


async def test_unfinished_bodies_are_bounded_over_all_connections():
    crowd = Crowd(unfinished_limit_bytes=2000)
    async with serving(crowd=crowd) as (_, call, *_):
        begun = HEAD + b"content-length: 1000\r\n\r\n" + b"x" * 900
        held = [await call(begun) for _ in range(2)]
        async with asyncio.timeout(5):
            while crowd.unfinished_bytes < 1800:  # noqa: ASYNC110 - the server runs in this loop
                await asyncio.sleep(0.01)
        status, headers, _ = await (await call(begun)).answer()
        assert (status, headers[b"connection"]) == (429, b"close")
        held[0].send(b"x" * 100)
        assert (await held[0].answer())[0] == 200
        assert (await (await call(begun + b"x" * 100)).answer())[0] == 200
        held[1].writer.close()
        async with asyncio.timeout(5):
            while crowd.unfinished_bytes:  # noqa: ASYNC110 - the server runs in this loop
                await asyncio.sleep(0.01)


async def test_a_body_alone_may_be_larger_than_all_unfinished_ones_together():
    async with serving(crowd=Crowd(unfinished_limit_bytes=100)) as (_, call, *_):
        caller = await call(HEAD + b"content-length: 900\r\n\r\n" + b"x" * 400)
        await asyncio.sleep(0.05)
        caller.send(b"x" * 500)
        assert (await caller.answer())[0] == 200


async def test_a_body_in_tiny_chunks_costs_no_more_memory_than_it_has_bytes():
    crowd = Crowd()
    async with serving(crowd=crowd) as (application, call, *_):
        application.body_limit = lambda path: 2_000_000
        caller = await call(CHUNKED)
        tracemalloc.start()
        for _ in range(500):
            caller.send(b"2\r\nab\r\n" * 1000)
            await caller.writer.drain()
        async with asyncio.timeout(30):
            while crowd.unfinished_bytes < 1_000_000:  # noqa: ASYNC110 - the server runs in this loop
                await asyncio.sleep(0.01)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        caller.send(b"0\r\n\r\n")
        assert (await caller.answer())[2] == b"POST /p " + b"ab" * 500_000
        assert held < 4_000_000


async def test_many_pipelined_requests_wait_in_the_socket_and_each_has_its_answer():
    async with serving() as (application, call, *_):
        caller = await call(post(b"/slow", b""))
        sent = asyncio.ensure_future(_send(caller, post(b"/p", b"1" * 900) * 10_000))
        await asyncio.sleep(0.3)
        assert application.started == 1
        assert not sent.done()
        application.released.set()
        assert (await caller.answer())[2] == b"slow "
        async with asyncio.timeout(60):
            for _ in range(10_000):
                assert (await caller.answer())[2] == b"POST /p " + b"1" * 900
        await sent


async def _send(caller, data):
    for at in range(0, len(data), 65536):
        caller.send(data[at : at + 65536])
        await caller.writer.drain()
