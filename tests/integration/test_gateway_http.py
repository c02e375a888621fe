"""The gateway's own HTTP/1.1: order, limits, callers that leave, callers that are slow, and the end."""

import asyncio
import sys
from pathlib import Path

import pytest

from shipway.core.arrival import Patience
from shipway.gateway.crowd import Crowd

sys.path.insert(0, str(Path(__file__).parent))
from raw_http import post, serving


async def test_connection_is_kept_and_requests_are_answered_in_order():
    async with serving() as (application, call, *_):
        caller = await call(post(b"/slow", b"1") + post(b"/b?q=1", b"2") + post(b"/a%20b", b"3"))
        await asyncio.sleep(0.05)
        assert application.started == 1
        application.released.set()
        assert [(await caller.answer())[2] for _ in range(3)] == [
            b"slow 1", b"POST /b 2", b"POST /a b 3",
        ]  # fmt: skip


async def test_body_may_come_in_pieces_and_in_chunks():
    async with serving() as (_, call, *_):
        caller = await call(b"POST /p HTTP/1.1\r\nhost: a\r\ntransfer-enc")
        await asyncio.sleep(0.01)
        caller.send(b"oding: chunked\r\n\r\n3\r\nabc\r\n2\r")
        await asyncio.sleep(0.01)
        caller.send(b"\nde\r\n0\r\n\r\n")
        assert (await caller.answer())[2] == b"POST /p abcde"


async def test_head_gets_the_length_without_the_body():
    async with serving() as (_, call, *_):
        caller = await call(b"HEAD /p HTTP/1.1\r\nhost: a\r\n\r\n" + post(b"/q", b""))
        status, headers, _ = await caller.answer(has_body=False)
        assert (status, headers[b"content-length"]) == (200, b"8")
        assert (await caller.answer())[2] == b"POST /q "


async def test_expectation_is_met_before_the_body_is_sent():
    async with serving() as (_, call, *_):
        caller = await call(post(b"/p", b"", b"expect: 100-continue").replace(b": 0", b": 3"))
        assert (await caller.answer(has_body=False))[0] == 100
        caller.send(b"abc")
        assert (await caller.answer())[2] == b"POST /p abc"


@pytest.mark.parametrize(
    "data",
    [
        post(b"/p", b"x" * 1001),
        b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999\r\n\r\n",
        b"POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"1f4\r\n" + b"x" * 500 + b"\r\n" + b"1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n",
    ],
)  # fmt: skip
async def test_body_over_the_limit_is_refused_and_the_connection_closed(data):
    async with serving() as (application, call, *_):
        caller = await call(data)
        status, headers, _ = await caller.answer()
        assert (status, headers[b"connection"]) == (413, b"close")
        assert await caller.is_closed()
        assert application.started == 0


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_not_a_request_gets_400_and_the_connection_is_closed(data):
    async with serving() as (application, call, *_):
        caller = await call(data)
        assert (await caller.answer())[0] == 400
        assert await caller.is_closed()
        assert application.started == 0


async def test_caller_that_leaves_cancels_its_request():
    async with serving() as (application, call, *_):
        caller = await call(post(b"/slow", b"1"))
        while not application.started:  # noqa: ASYNC110 - the server runs in this loop
            await asyncio.sleep(0.01)
        caller.writer.close()
        async with asyncio.timeout(5):
            await application.cancelled.wait()


async def test_caller_that_does_not_read_is_not_answered_without_end():
    async with serving() as (application, call, *_):
        caller = await call(post(b"/big", b"") * 201)
        await asyncio.sleep(0.3)
        assert application.started < 5
        received = 0
        async with asyncio.timeout(30):
            for _ in range(201):
                received += len((await caller.answer())[2])
        assert received == 201 * 4_000_000


async def test_connection_close_is_honoured():
    async with serving() as (_, call, *_):
        caller = await call(post(b"/p", b"1", b"connection: close"))
        assert (await caller.answer())[1][b"connection"] == b"close"
        assert await caller.is_closed()


async def test_silent_connection_is_closed_and_a_working_one_is_not():
    crowd = Crowd(Patience(idle_s=0.1, look_every_s=0.05))
    async with serving(crowd=crowd) as (application, call, *_):
        silent = await call(b"POST /p HTTP/1.1\r\nhost")
        working = await call(post(b"/slow", b"1"))
        assert await silent.is_closed()
        application.released.set()
        assert (await working.answer())[2] == b"slow 1"


async def test_stopping_server_answers_what_it_has_and_takes_nothing_new():
    async with serving() as (application, call, stopping, task):
        idle, working = await call(), await call(post(b"/slow", b"1"))
        while not application.started:  # noqa: ASYNC110 - the server runs in this loop
            await asyncio.sleep(0.01)
        stopping.set()
        assert await idle.is_closed()
        assert not task.done()
        with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the system likes
            await call()
        application.released.set()
        status, headers, body = await working.answer()
        assert (status, body, headers[b"connection"]) == (200, b"slow 1", b"close")
        async with asyncio.timeout(5):
            await task


async def test_stopping_server_waits_no_longer_than_it_may():
    async with serving(drain_s=0.1) as (application, call, stopping, task):
        caller = await call(post(b"/slow", b"1"))
        while not application.started:  # noqa: ASYNC110 - the server runs in this loop
            await asyncio.sleep(0.01)
        stopping.set()
        async with asyncio.timeout(5):
            await task
            await application.cancelled.wait()
        assert await caller.is_closed()
