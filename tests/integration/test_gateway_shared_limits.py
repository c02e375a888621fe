"""Limits counted in a real Valkey: exact over machines, and nothing that fails when it does."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipway.core.rates import CallerLimits, Decision, RateLimit, Use, Whose, decide
from shipway.gateway import valkey_ledger
from shipway.gateway.ledger import MachineLedger, Visit
from shipway.gateway.ledger_script import SCRIPT, decoded, encoded
from shipway.gateway.valkey_ledger import ValkeyLedger
from shipway.testing.servers import valkey

SLOW = RateLimit(per_s=0.001, burst=40)


@pytest.fixture(scope="module")
def shared_server():
    with valkey() as server:
        yield server


@pytest.fixture
def server(shared_server):
    shared_server.ask("FLUSHALL")
    return shared_server


@pytest.fixture
async def machine(tmp_path, monkeypatch):
    """Makes ledgers of gateways that each are on a machine of their own.

    They wait long for Valkey: on a busy machine, a reply may be late that was given in time.
    """
    monkeypatch.setattr(valkey_ledger, "TIMEOUT_S", 10.0)
    async with AsyncExitStack() as stack:

        async def make(server, name="a", **more):
            own = MachineLedger(tmp_path / name)
            ledger = ValkeyLedger(server.url, own, environment="test", **more)
            stack.push_async_callback(ledger.close)
            await ledger.start()
            await until(lambda: ledger.is_shared)
            return ledger

        yield make


async def until(claim, within_s=20.0):
    end = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def visit_of(ledger, limits, name="k", **more):
    return Visit(ledger.bound(Whose.KEY, name, limits), **more)


async def decided(ledger, visit) -> Decision:
    asked = ledger.ask(visit)
    return asked if isinstance(asked, Decision) else await asked


async def is_let_in(ledger, limits, name="k"):
    return (await decided(ledger, visit_of(ledger, limits, name))).refusal is None


async def admitted(ledgers, limits, count):
    asked = [is_let_in(ledger, limits) for ledger in ledgers for _ in range(count)]
    return sum(await asyncio.gather(*asked))


@pytest.mark.parametrize(
    "limits",
    [
        CallerLimits(rate=SLOW),
        CallerLimits(daily_requests=40),
        CallerLimits(daily_budget=40),
        CallerLimits(max_concurrency=40),
    ],
    ids=["rate", "requests", "budget", "concurrency"],
)
async def test_machines_let_in_exactly_what_is_allowed_between_them(server, machine, limits):
    ledgers = [await machine(server, name) for name in "abc"]
    assert await admitted(ledgers, limits, 200) == 40
    assert all(ledger.is_shared for ledger in ledgers)


async def test_rate_gives_again_what_it_says_by_valkeys_clock(server, machine):
    ledgers = [await machine(server, name) for name in "ab"]
    limits = CallerLimits(rate=RateLimit(per_s=20, burst=5))
    begun, count = time.monotonic(), 0
    for _ in range(20):
        count += await admitted(ledgers, limits, 5)
        assert count <= 5 + 20 * (time.monotonic() - begun)
    refusal = None
    while refusal is None:  # what is let in takes what came back meanwhile
        refusal = (await decided(ledgers[0], visit_of(ledgers[0], limits))).refusal
    await asyncio.sleep(refusal.wait_s)
    assert await is_let_in(ledgers[1], limits)


async def test_environments_are_counted_apart(server, tmp_path, machine):
    one = await machine(server)
    own = MachineLedger(tmp_path / "z")
    other = ValkeyLedger(server.url, own, environment="other")
    try:
        await other.start()
        await until(lambda: other.is_shared)
        limits = CallerLimits(daily_requests=1)
        assert [await is_let_in(one, limits), await is_let_in(other, limits)] == [True, True]
    finally:
        await other.close()


async def test_visits_count_until_they_leave_and_a_lost_gateways_until_they_must_have_ended(
    server, machine
):
    one, other = await machine(server, "a"), await machine(server, "b")
    limits = CallerLimits(max_concurrency=2)
    visits = [visit_of(one, limits), visit_of(one, limits, lasts_s=0.5)]
    for visit in visits:
        assert (await decided(one, visit)).refusal is None
    assert not await is_let_in(other, limits)
    one.leave(visits[0])
    one.leave(visits[0])
    await until(lambda: server.ask("ZCARD", "shipway:limits:test:key:k:visits") == 1)
    assert await is_let_in(other, limits)
    assert not await is_let_in(other, limits)
    begun = time.monotonic()
    while not await is_let_in(other, limits):  # `one` never says that it left
        await asyncio.sleep(0.05)
        assert time.monotonic() - begun < 20


async def test_caller_who_leaves_while_valkey_is_asked_leaves_nothing_behind(server, machine):
    ledger = await machine(server)
    limits = CallerLimits(max_concurrency=1)
    server.pause()
    visit = visit_of(ledger, limits)
    asked = ledger.ask(visit)
    await asyncio.sleep(0)  # it is on its way
    await asyncio.sleep(0)
    asked.cancel()
    ledger.leave(visit)
    server.resume()
    await until(lambda: not ledger._departures and ledger._asking is None)
    assert server.ask("ZCARD", "shipway:limits:test:key:k:visits") == 0
    assert await is_let_in(ledger, limits)


async def test_valkey_that_is_killed_fails_nobody_and_grants_no_second_day(machine, capfd):
    with valkey() as server:
        ledger = await machine(server)
        limits = CallerLimits(daily_requests=30)
        assert await admitted([ledger], limits, 10) == 10
        server.end()
        assert await admitted([ledger], limits, 10) == 10
        while ledger.is_shared:
            await is_let_in(ledger, limits, "other")
        server.start()  # with an empty memory
        await until(lambda: ledger.is_shared)
        assert await admitted([ledger], limits, 40) == 10
        other = await machine(server, "b")
        assert not await is_let_in(other, limits)
    said = capfd.readouterr().err
    assert said.count("does not answer") == said.count("Each machine counts for itself.")
    assert "The ledger of limits at 127.0.0.1:" in said
    assert "answers again." in said


async def test_valkey_that_hangs_costs_a_few_their_second_and_the_rest_nothing(
    server, machine, monkeypatch
):
    with monkeypatch.context() as impatient:
        impatient.setattr(valkey_ledger, "TIMEOUT_S", 1.0)
        ledger = await machine(server)
    limits = CallerLimits(rate=SLOW)
    server.pause()
    try:
        assert await admitted([ledger], limits, 60) == 40
        while ledger.is_shared:
            await is_let_in(ledger, limits)
        begun = time.monotonic()
        for _ in range(1000):
            assert isinstance(ledger.ask(visit_of(ledger, limits)), Decision)
        assert time.monotonic() - begun < 5
    finally:
        server.resume()


async def test_full_valkey_is_said_once_and_costs_nothing(machine, capfd):
    with valkey("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        ledger = await machine(server)
        with suppress(Exception):
            for number in range(100):
                server.ask("SET", f"filler-{number}", b"x" * 100_000)
        limits = CallerLimits(rate=SLOW)
        assert await admitted([ledger], limits, 60) == 40
        assert await admitted([ledger], limits, 60) == 0
    said = capfd.readouterr().err
    assert said.count("The ledger of limits at") >= 1
    assert said.count("refuses:") == 1


limits = st.builds(
    CallerLimits,
    rate=st.none() | st.builds(RateLimit, per_s=st.just(1e-5), burst=st.integers(1, 8)),
    max_concurrency=st.none() | st.integers(1, 8),
    daily_requests=st.none() | st.integers(0, 8),
    daily_budget=st.none() | st.integers(0, 20),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(limits, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 7), st.integers(0, 4)), min_size=1, max_size=25),
)
def test_script_decides_as_the_core_does(server, bounded, asks):
    server.ask("FLUSHALL")
    own = MachineLedger()
    every = [
        own.bound(Whose.KEY, str(place), one) or own.bound(Whose.KEY, str(place), WIDE)
        for place, one in enumerate(bounded)
    ]
    uses = {bound: Use() for (bound,) in every}
    for number, (chosen, cost) in enumerate(asks):
        bounds = tuple(bound for place, (bound,) in enumerate(every) if chosen >> place & 1)
        if not bounds:
            continue
        visit = Visit(bounds, cost=cost)
        visit.id = str(number)
        call = encoded("t:", [], [visit], [Use()] * len(bounds))
        reply = server.ask("EVAL", SCRIPT, str(len(call[0])), *call[0], *call[1])
        now, (seen,) = decoded(reply, [visit])
        for bound, use in zip(bounds, seen, strict=True):
            mine = uses[bound]
            inside = mine.inside if bound.is_concurrent else 0
            assert (use.requests, use.units, use.inside) == (mine.requests, mine.units, inside)
            assert use.spent == pytest.approx(mine.spent, abs=1e-3)
        asked = [(bound.limits, use) for bound, use in zip(bounds, seen, strict=True)]
        decision = decide(asked, cost=cost, now=now, wall_s=now)
        uses |= dict(zip(bounds, decision.uses, strict=True))


WIDE = CallerLimits(daily_requests=1000)
