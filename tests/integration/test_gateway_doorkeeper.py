"""The gateway's door: who is let in, who is not, and what that costs the gateway."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from shipway.core.access import Binding, Grant, Role
from shipway.core.attempts import MOST
from shipway.core.endpoints import Limits
from shipway.core.errors import EndpointNotFound, Forbidden, TooManyAttempts, Unauthenticated
from shipway.core.keys import read_key, written
from shipway.core.rates import CallerLimits, RateLimit
from shipway.gateway.app import UNKNOWN_LIMIT_BYTES, Gateway
from shipway.gateway.doorkeeper import MAX_DENIALS, MAX_KNOWN, Doorkeeper
from shipway.gateway.http import Request, serve
from shipway.gateway.main import bound
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.wire.credentials import KeyEntry
from shipway.wire.snapshot import OPEN, AccessList, GatewayReport, Route, Snapshot

NOW_S = 1_800_000_000.0


def text_of(letter):
    return written(letter * 12, letter * 43)


def entry(letter, *grants, **fields):
    known = read_key(text_of(letter))
    return KeyEntry(id=known.id, name=letter, digest=known.digest, grants=grants, **fields)


INVOKER = Grant(role=Role.INVOKER, project="mine")
LIST = AccessList(
    environment="dev",
    keys=(
        entry("a", INVOKER),
        entry("b", Grant(role=Role.VIEWER, project="mine")),
        entry("c", INVOKER, expires_at_s=NOW_S + 10),
    ),
    bindings=(Binding(subject="cert:app", grants=(INVOKER,)),),
)


class Clock:
    def __init__(self):
        self.now_s = NOW_S

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def door(clock):
    door = Doorkeeper(wall_s=clock)
    door.apply(LIST, {})
    return door


def asking(letter=None, *, text=None, source="10.0.0.1", peer=""):
    text = text if letter is None else text_of(letter)
    headers = {} if text is None else {b"authorization": f"Bearer {text}".encode()}
    request = Request("POST", b"/v2/models/mine.m/infer", headers)
    request.source, request.peer = source, peer
    return request


def test_before_the_first_list_nobody_is_let_in(clock):
    with pytest.raises(Unauthenticated):
        Doorkeeper(wall_s=clock).admit(asking("a"), "mine.m")


def test_an_open_list_opens_only_a_gateway_that_may_be_open(clock):
    for may_open in (True, False):
        door = Doorkeeper(wall_s=clock, may_open=may_open)
        door.apply(OPEN, {})
        assert door.is_open == may_open
    with pytest.raises(Unauthenticated):
        door.admit(asking(), "mine.m")


def test_who_may_ask_is_let_in_and_nobody_else(door):
    assert door.admit(asking("a"), "mine.m").principal.name == "a"
    assert door.admit(asking(peer="app"), "mine.m").principal.name == "app"
    with pytest.raises(Forbidden, match="`invoke`"):
        door.admit(asking("b"), "mine.m")
    with pytest.raises(EndpointNotFound):
        door.admit(asking("a"), "theirs.m")
    for request in (asking(), asking("d"), asking(text="x"), asking(peer="stranger")):
        with pytest.raises((Unauthenticated, EndpointNotFound)):
            door.admit(request, "mine.m")


def test_a_key_that_expires_is_refused_from_that_second(door, clock):
    door.admit(asking("c"), "mine.m")
    clock.now_s += 10
    with pytest.raises(Unauthenticated, match="expired"):
        door.admit(asking("c"), "mine.m")


def test_a_revoked_key_is_refused_with_the_next_list(door):
    door.admit(asking("a"), "mine.m")
    door.apply(AccessList(environment="dev", keys=LIST.keys[1:]), {})
    with pytest.raises(Unauthenticated):
        door.admit(asking("a"), "mine.m")


def test_guesses_are_stopped_and_known_callers_are_not(door):
    door.admit(asking("a"), "mine.m")
    for number in range(MOST):
        with pytest.raises(Unauthenticated):
            door.admit(asking(text=f"guess {number}"), "mine.m")
    for letter in ("d", "b"):  # not even a right one is looked at
        with pytest.raises(TooManyAttempts) as refused:
            door.admit(asking(letter), "mine.m")
        assert refused.value.details["retry_after_s"] > 0
    door.admit(asking("a"), "mine.m")
    # Nor when everything learnt is forgotten with the next list.
    door.apply(AccessList(environment="dev", keys=LIST.keys[:1]), {})
    door.admit(asking("a"), "mine.m")
    door.apply(LIST, {})
    with pytest.raises(Forbidden):
        door.admit(asking("b", source="10.0.0.2"), "mine.m")


def test_a_request_that_is_looked_at_twice_is_denied_once(door):
    request = asking("b")
    assert not door.admits(request, "mine.m")
    with pytest.raises(Forbidden):
        door.admit(request, "mine.m")
    (denial,) = door.denials()
    assert (denial.who, denial.right, denial.endpoint, denial.count) == ("b", "invoke", "mine.m", 1)
    assert door.denials() == ()


def test_a_million_denials_and_callers_take_bounded_memory(door):
    for number in range(MAX_DENIALS + 50):
        with pytest.raises(EndpointNotFound):
            door.admit(asking("a"), f"theirs.{number}")
    denials = door.denials()
    assert len(denials) == MAX_DENIALS + 1
    assert sum(denial.count for denial in denials) == MAX_DENIALS + 50
    for number in range(MAX_KNOWN + 5):
        door.admit(asking("a"), f"mine.{number}")
    known = door._known
    assert max(len(caller.admitted) for caller in known.values()) <= MAX_KNOWN


def test_what_a_report_that_was_lost_says_comes_with_the_next_one(door):
    door.admit(asking("a"), "mine.m")
    for _ in range(2):
        with pytest.raises(Forbidden):
            door.admit(asking("b"), "mine.m")
    lost = GatewayReport(
        gateway="g", revision="", variants=(), denials=door.denials(), used_keys=door.used()
    )
    with pytest.raises(Forbidden):
        door.admit(asking("b"), "mine.m")
    door.keep(lost)
    assert [denial.count for denial in door.denials()] == [3]
    assert set(door.used()) == {"a" * 12, "b" * 12}


def test_used_keys_are_reported_once(door):
    door.admit(asking("a"), "mine.m")
    door.admit(asking("a"), "mine.m")
    assert door.used() == ("a" * 12,)
    assert door.used() == ()


@asynccontextmanager
async def gateway():
    table = RouteTable(lambda: None)
    limits = Limits(max_body_bytes=50_000_000)
    table.apply(Snapshot.of((Route(name="mine.m", limits=limits, variants=()),), LIST))
    listening, stopping = bound("127.0.0.1", 0), asyncio.Event()
    serving = asyncio.ensure_future(
        serve(Gateway(table, Serving(table)), listening, stopping, drain_s=0.1)
    )
    await asyncio.sleep(0)  # it listens from its first step on
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        stopping.set()
        await serving
        table.close()


@pytest.mark.parametrize("letter", [None, "b", "d"])
async def test_who_is_not_let_in_cannot_make_the_gateway_read_a_long_body(letter):
    async with gateway() as (reader, writer):
        proof = "" if letter is None else f"Authorization: Bearer {text_of(letter)}\r\n"
        head = f"POST /v2/models/mine.m/infer HTTP/1.1\r\nHost: x\r\n{proof}"
        writer.write(f"{head}Content-Length: {UNKNOWN_LIMIT_BYTES + 1}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n")
        assert answer.startswith(b"HTTP/1.1 413")


async def test_who_is_let_in_may_send_what_the_endpoint_takes():
    async with gateway() as (reader, writer):
        body = b"{" + b" " * UNKNOWN_LIMIT_BYTES + b"}"
        head = f"POST /v2/models/mine.m/infer HTTP/1.1\r\nHost: x\r\nx-api-key: {text_of('a')}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n")
        assert answer.startswith(b"HTTP/1.1 503")  # it has no version yet


async def test_a_request_counts_against_its_key_its_project_and_its_endpoint():
    table = RouteTable(lambda: None)
    limits = Limits(rate=RateLimit(per_s=0.001, burst=5))
    keys = (
        entry("a", INVOKER, limits=CallerLimits(daily_requests=2)),
        entry("d", INVOKER),
    )
    access = AccessList(
        environment="dev", keys=keys, projects={"mine": CallerLimits(daily_requests=4)}
    )
    table.apply(Snapshot.of((Route(name="mine.m", limits=limits, variants=()),), access))
    gateway = Gateway(table, Serving(table))
    said = [gateway.handle(asking(letter)) for letter in "aaaddd"]
    assert [answer.status for answer in said] == [503, 503, 429, 503, 503, 429]
    assert [b"Key `" in answer.body for answer in said] == [False, False, True, False, False, False]
    assert b"Project `mine`" in said[-1].body
    table.close()


async def test_an_unknown_caller_is_told_how_to_call():
    async with gateway() as (reader, writer):
        writer.write(
            b"POST /v2/models/mine.m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
        )
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"www-authenticate: Bearer" in answer
        assert b"shipway key create" in answer
