"""The response cache: one run for equal requests, kept answers, and a Valkey that may do anything."""

import asyncio
import json
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest

from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Cache, Limits
from shipway.core.errors import DeadlineExceeded, ModelFailed
from shipway.core.telemetry import Column, Outcome
from shipway.core.tensors import DataType
from shipway.gateway.cache import AnswerCache, Found
from shipway.gateway.http import Request
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.gateway.valkey import ValkeyStore
from shipway.testing.live import SIGNATURE, onnx_bundle
from shipway.testing.servers import valkey
from shipway.wire.codec import Answer
from shipway.wire.open_inference import OpenInference
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant

INPUTS = {"x": np.ones(1)}


class Model:
    """A runner that counts, and answers when it is let."""

    is_ready = True
    error = ""

    def __init__(self):
        self.calls = 0
        self.left = 0
        self.let = asyncio.Event()
        self.failure = None
        self.at_once = False

    def run_now(self, inputs):
        if not self.at_once:
            return None
        self.calls += 1
        return {"y": inputs["x"] * 2}

    async def infer(self, inputs, *, timeout_s):
        self.calls += 1
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        if self.failure is not None:
            raise self.failure
        return {"y": inputs["x"] * 2}

    def close(self):
        pass


def variant_of(digest="sha256:1", **fields):
    return Variant(
        model="m", version=1, digest=digest, weight_pct=100, inline=False, bundle_dir="",
        served=Served.ORIGINAL, signature=SIGNATURE, config=ModelConfig(), **fields,
    )  # fmt: skip


def cache_of(model, *, spec=None, digest="sha256:1", **options):
    made = AnswerCache(spec or Cache(), variant_of(digest), model, **options)
    made.deadline_s = 5.0
    return made


async def ask(cache, *, timeout_s=5.0, x=1.0):
    inputs = {"x": np.array([x])}
    call = cache.call(inputs)
    outputs = call.run_now(inputs)
    return outputs if outputs is not None else await call.infer(inputs, timeout_s=timeout_s)


async def until(claim, within_s=30):
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110 - other tasks move on meanwhile
            await asyncio.sleep(0.005)


def counted(row):
    return row.values[Column.CACHE_HITS], row.values[Column.CACHE_MISSES]


async def test_equal_requests_at_once_run_the_model_once():
    model = Model()
    cache = cache_of(model)
    asked = [asyncio.create_task(ask(cache)) for _ in range(50)]
    await until(lambda: model.calls)
    model.let.set()
    answers = await asyncio.gather(*asked)
    assert [a["y"].tolist() for a in answers] == [[2.0]] * 50
    assert (model.calls, *counted(cache.row)) == (1, 49, 1)
    assert sum(isinstance(a, Found) for a in answers) == 49
    assert isinstance(cache.call(INPUTS).run_now(INPUTS), Found)


async def test_first_caller_who_leaves_does_not_strand_the_others():
    model = Model()
    cache = cache_of(model)
    first, second, third = (asyncio.create_task(ask(cache)) for _ in range(3))
    await until(lambda: model.calls)
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    model.let.set()
    assert (await third)["y"] == [2]
    assert (model.calls, model.left) == (1, 0)


async def test_run_that_nobody_waits_for_is_cancelled_and_not_joined():
    model = Model()
    cache = cache_of(model)
    alone = asyncio.create_task(ask(cache))
    await until(lambda: model.calls)
    alone.cancel()
    await asyncio.gather(alone, return_exceptions=True)
    model.let.set()
    assert (await ask(cache))["y"] == [2]
    assert (model.calls, model.left) == (2, 1)


async def test_failure_goes_to_all_who_waited_and_is_not_kept():
    model = Model()
    cache = cache_of(model)
    model.failure = ModelFailed("The model's code raised an error.")
    asked = [asyncio.create_task(ask(cache)) for _ in range(5)]
    await until(lambda: model.calls)
    model.let.set()
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(f) for f in failures] == [ModelFailed] * 5
    assert model.calls == 1
    model.failure = None
    assert not isinstance(await ask(cache), Found)
    assert (model.calls, *counted(cache.row)) == (2, 0, 1)


async def test_deadline_of_the_run_sends_followers_with_time_left_on_together():
    model = Model()
    cache = cache_of(model)
    model.failure = DeadlineExceeded("No answer.")
    asked = [asyncio.create_task(ask(cache)) for _ in range(4)]
    await until(lambda: model.calls)
    model.let.set()
    first, *others = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, DeadlineExceeded)
    # Each round one of those left leads, and it alone gets that round's failure.
    assert all(isinstance(other, DeadlineExceeded) for other in others)
    assert model.calls == 4


async def test_callers_own_deadline_ends_its_wait_alone():
    model = Model()
    cache = cache_of(model)
    impatient = asyncio.create_task(ask(cache, timeout_s=0.05))
    patient = asyncio.create_task(ask(cache))
    with pytest.raises(DeadlineExceeded):
        await impatient
    model.let.set()
    assert (await patient)["y"] == [2]
    assert model.calls == 1


async def test_time_of_an_answer_is_the_clocks():
    now = [0.0]
    model = Model()
    model.at_once = True
    cache = cache_of(model, spec=Cache(ttl_s=10), clock=lambda: now[0])
    kinds = []
    for moment in (0, 9.9, 10, 11):
        now[0] = moment
        kinds.append(isinstance(await ask(cache), Found))
    assert kinds == [False, True, False, True]
    assert cache.size_bytes > 0
    now[0] = 30
    cache.expire()
    assert cache.size_bytes == 0


async def test_text_without_a_key_goes_past_the_cache():
    model = Model()
    model.at_once = True
    signature = msgspec.structs.replace(
        SIGNATURE, inputs=(msgspec.structs.replace(SIGNATURE.inputs[0], dtype=DataType.STRING),)
    )
    variant = msgspec.structs.replace(variant_of(), signature=signature)
    cache = AnswerCache(Cache(), variant, model)
    assert cache.call({"x": np.array(["\ud800"], dtype=object)}) is model


class Gateway:
    """Routes of inline models, asked in this process."""

    def __init__(self, directory, shared=None):
        self.directory = directory
        self.table = RouteTable(lambda: None, shared_cache=shared)
        self.serving = Serving(self.table)

    async def route(self, factor, *, version=1, cache=None):
        """Puts the model `y = x * factor` behind endpoint `e`."""
        bundle = self.directory / f"{factor}"
        manifest = onnx_bundle(bundle, factor)
        variant = Variant(
            model="m", version=version, digest=manifest.digest, weight_pct=100, inline=True,
            bundle_dir=str(bundle), served=Served.ONNX, signature=SIGNATURE, config=ModelConfig(),
        )  # fmt: skip
        route = Route(name="e", limits=Limits(), variants=(variant,), cache=cache)
        self.table.apply(Snapshot.of((route,), OPEN))
        await self.table.loaded()

    async def ask(self, value, **more):
        tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}
        request = Request("POST", b"/v2/models/e/infer", {})
        request.body = json.dumps({"inputs": [tensor], **more}).encode()
        answer = self.serving.answer(OpenInference(), request, "e")
        answer = answer if isinstance(answer, Answer) else await answer
        assert answer.status == 200, answer.body
        return json.loads(answer.body)["outputs"][0]["data"][0], is_hit(answer)

    def report(self):
        (variant,) = self.table.route("e").variants
        row = variant.row
        return *counted(row), row.values[Outcome.FAILED]


def is_hit(answer):
    return (b"x-shipway-cache", b"hit") in answer.headers


@asynccontextmanager
async def gateway_in(directory, shared=None):
    gateway = Gateway(directory, shared)
    try:
        yield gateway
    finally:
        gateway.table.close()


async def test_endpoint_without_a_cache_runs_every_request(tmp_path):
    async with gateway_in(tmp_path) as gateway:
        await gateway.route(2.0)
        assert [await gateway.ask(3) for _ in range(2)] == [(6, False)] * 2
        assert gateway.report() == (0, 0, 0)


async def test_answer_says_that_it_was_kept_whatever_outputs_were_asked_for(tmp_path):
    async with gateway_in(tmp_path) as gateway:
        await gateway.route(2.0, cache=Cache())
        assert await gateway.ask(3) == (6, False)
        assert await gateway.ask(3.0, id="other", outputs=[{"name": "y"}]) == (6, True)
        assert await gateway.ask(4) == (8, False)
        assert gateway.report() == (1, 2, 0)


async def test_new_version_never_gives_an_old_versions_answer(tmp_path):
    async with gateway_in(tmp_path) as gateway:
        await gateway.route(2.0, cache=Cache())
        await gateway.ask(3)
        await gateway.route(5.0, version=2, cache=Cache())
        assert await gateway.ask(3) == (15, False)
        # The same number with other bytes (a model deleted and registered anew) is another version.
        await gateway.route(7.0, version=2, cache=Cache())
        assert await gateway.ask(3) == (21, False)


async def test_snapshot_that_keeps_the_cache_keeps_its_answers_and_another_begins_anew(tmp_path):
    async with gateway_in(tmp_path) as gateway:
        await gateway.route(2.0, cache=Cache())
        await gateway.ask(3)
        await gateway.route(2.0, cache=Cache())
        assert await gateway.ask(3) == (6, True)
        await gateway.route(2.0, cache=Cache(ttl_s=5))
        assert await gateway.ask(3) == (6, False)
        assert gateway.report() == (1, 2, 0)
        await gateway.route(2.0)
        assert await gateway.ask(3) == (6, False)


@asynccontextmanager
async def store_at(url):
    store = ValkeyStore(url)
    store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(scope="module")
def shared_server():
    with valkey() as server:
        yield server


@pytest.fixture
def server(shared_server):
    shared_server.ask("FLUSHALL")
    return shared_server


async def test_gateways_share_answers_through_valkey_and_versions_do_not(server, tmp_path):
    async with store_at(server.url) as one, store_at(server.url) as other:
        await until(lambda: one.is_up and other.is_up)
        async with gateway_in(tmp_path, one) as first, gateway_in(tmp_path, other) as second:
            await first.route(2.0, cache=Cache(ttl_s=60))
            await second.route(2.0, cache=Cache(ttl_s=60))
            assert await first.ask(3) == (6, False)
            await until(lambda: server.ask("DBSIZE") == 1)
            assert await second.ask(3) == (6, True)
            assert await first.ask(3) == (6, True)
            (name,) = server.ask("KEYS", "*")
            assert 50_000 < server.ask("PTTL", name) <= 60_000
            await second.route(5.0, version=2, cache=Cache(ttl_s=60))
            assert await second.ask(3) == (15, False)
            assert (first.report(), second.report()) == ((1, 1, 0), (0, 1, 0))


async def test_valkey_killed_in_the_middle_costs_no_request_and_serves_when_it_is_back(
    tmp_path, capfd
):
    with valkey() as server:
        async with store_at(server.url) as store, gateway_in(tmp_path, store) as gateway:
            await until(lambda: store.is_up)
            await gateway.route(2.0, cache=Cache())
            await gateway.ask(1)
            for n in range(300):
                if n == 100:
                    server.end()
                assert (await gateway.ask(n))[0] == 2 * n
            assert not store.is_up
            server.start()
            await until(lambda: store.is_up)
            await gateway.ask(7)
            await until(lambda: server.ask("DBSIZE"))
            assert await gateway.ask(7) == (14, True)
            assert gateway.report()[2] == 0
    said = capfd.readouterr().err.splitlines()
    assert [line.split(" ", 5)[5].split(":")[0] for line in said] == [
        "does not answer",
        "answers again.",
    ]


async def test_valkey_that_hangs_costs_a_few_requests_its_timeout_and_the_rest_nothing(
    server, tmp_path
):
    async with store_at(server.url) as store, gateway_in(tmp_path, store) as gateway:
        await until(lambda: store.is_up)
        await gateway.route(2.0, cache=Cache())
        server.pause()
        try:
            loop = asyncio.get_running_loop()
            started = loop.time()
            for n in range(50):
                assert (await gateway.ask(n))[0] == 2 * n
            assert loop.time() - started < 2
            assert not store.is_up
        finally:
            server.resume()
        await until(lambda: store.is_up)


async def test_garbage_and_other_types_under_a_key_are_misses(server):
    async with store_at(server.url) as store:
        await until(lambda: store.is_up)
        model = Model()
        model.at_once = True
        cache = cache_of(model, shared=store)
        await ask(cache)
        await until(lambda: server.ask("DBSIZE"))
        (name,) = server.ask("KEYS", "*")
        value = server.ask("GET", name)
        for bad in (b"", b"garbage", value[:-1], value + b"x", bytes(len(value))):
            server.ask("SET", name, bad)
            assert not isinstance(await ask(cache), Found)
            await until(lambda: server.ask("GET", name) == value)
        server.ask("DEL", name)
        server.ask("LPUSH", name, "x")
        assert not isinstance(await ask(cache), Found)
        await until(lambda: server.ask("TYPE", name) == b"string")
        assert isinstance(await ask(cache), Found)
        assert store.is_up


async def test_full_valkey_is_said_once_and_goes_on_answering(capfd, tmp_path):
    with valkey("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        async with store_at(server.url) as store, gateway_in(tmp_path, store) as gateway:
            await until(lambda: store.is_up)
            await gateway.route(2.0, cache=Cache())
            for n in range(30):
                assert await gateway.ask(n) == (2 * n, False)
            assert store.is_up
    assert capfd.readouterr().err.count("refuses") == 1


@pytest.mark.parametrize(
    "url", ["valkey://127.0.0.1:1/0", "http://x", "valkey://[", "valkey://127.0.0.1:1/0?odd=1"]
)
async def test_valkey_that_never_was_is_said_once_and_costs_nothing(url, tmp_path, capfd):
    async with store_at(url) as store, gateway_in(tmp_path, store) as gateway:
        await gateway.route(2.0, cache=Cache())
        await until(lambda: "cache" in capfd.readouterr().err)
        assert await gateway.ask(3) == (6, False)
        assert not store.is_up


async def test_password_of_the_url_is_not_logged(capfd):
    async with store_at("valkey://:secret@127.0.0.1:1/0"):
        said = ""
        async with asyncio.timeout(10):
            while "cache" not in said:
                said += capfd.readouterr().err
                await asyncio.sleep(0.01)
    assert "127.0.0.1:1" in said
    assert "secret" not in said


async def test_hundreds_of_gets_at_once_take_turns_and_all_find_their_answer(server):
    async with store_at(server.url) as store:
        await until(lambda: store.is_up)
        keys = [bytes([n]) * 32 for n in range(200)]
        for n, key in enumerate(keys):
            await store.put(key, {"y": np.array([n])}, ttl_s=60)

        async def get_often(n):
            for _ in range(10):
                found = await store.get(keys[n])
                assert found is None or found["y"] == [n]
            return found is not None

        found = [await asyncio.gather(*map(get_often, range(32))) for _ in range(3)]
        assert store.is_up
        assert sum(map(sum, found)) > 90  # a busy machine may let a turn come too late


async def test_caller_who_leaves_in_the_middle_of_a_get_mixes_up_no_replies(server):
    async with store_at(server.url) as store:
        await until(lambda: store.is_up)
        keys = [bytes([n]) * 32 for n in range(20)]
        for n, key in enumerate(keys):
            await store.put(key, {"y": np.array([n])}, ttl_s=60)
        for round_ in range(40):
            asked = [asyncio.create_task(store.get(key)) for key in keys]
            for _ in range(round_ % 8):
                await asyncio.sleep(0)
            for one in asked[::2]:
                one.cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for n, answer in enumerate(answers):
                assert answer is None or isinstance(answer, BaseException) or answer["y"] == [n]
        assert store.is_up
        assert (await store.get(keys[3]))["y"] == [3]
