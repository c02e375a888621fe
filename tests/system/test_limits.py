"""Limits of real gateways under a burst from several processes: what is let in is counted to the last one."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import httpx
import msgspec
import pytest

from shipway.client.synchronous import Client
from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Limits
from shipway.core.errors import RateLimited
from shipway.core.rates import RateLimit
from shipway.testing.live import SIGNATURE, live_server, onnx_bundle
from shipway.testing.servers import valkey
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant

PATH = "/v2/models/e/infer"
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [3]}]}
ALLOWED = 100
PROCESSES, EACH = 3, 15
ASKED = 8 * PROCESSES * EACH
BURST = Limits(rate=RateLimit(per_s=0.0001, burst=ALLOWED))
"""So many, and no more while a test lasts."""

CALLER = """
import asyncio, json, sys
import httpx

async def main(urls, path, body, count):
    statuses = {}
    async def ask(client):
        for _ in range(count):
            status = (await client.post(path, json=body)).status_code
            statuses[status] = statuses.get(status, 0) + 1
    async with httpx.AsyncClient(base_url=urls[0], timeout=60) as a:
        async with httpx.AsyncClient(base_url=urls[1], timeout=60) as b:
            await asyncio.gather(*(ask(client) for client in (a, b) for _ in range(4)))
    print(json.dumps(statuses))

asyncio.run(main(*json.loads(sys.argv[1])))
"""


class Gateways:
    """Gateway processes of one inline model with limits, without control."""

    def __init__(self, root, limits, url):
        self._root = root
        self._environment = {**os.environ, "SHIPWAY_LIMITS_URL": url}
        manifest = onnx_bundle(root / "bundle", 2.0)
        variant = Variant(
            model="m", version=1, digest=manifest.digest, weight_pct=100, inline=True,
            bundle_dir=str(root / "bundle"), served=Served.ONNX, signature=SIGNATURE,
            config=ModelConfig(),
        )  # fmt: skip
        route = Route(name="e", limits=limits, variants=(variant,))
        self._snapshot = msgspec.json.encode(Snapshot.of((route,), OPEN))
        self.processes = []

    def start(self, machine):
        """One more on that machine; gives its record, which is there once it listens."""
        state = self._root / machine
        state.mkdir(exist_ok=True)
        (state / "snapshot.json").write_bytes(self._snapshot)
        name = f"g{len(self.processes)}"
        options = ["--control-url", "http://127.0.0.1:9", "--port", "0", "--id", name]
        command = [sys.executable, "-m", "shipway.gateway", "--state-dir", str(state), *options]
        with self.log(name).open("wb") as log:
            self.processes.append(subprocess.Popen(command, stderr=log, env=self._environment))
        return state / "run" / f"{name}.json"

    def log(self, name):
        return self._root / f"{name}.log"

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            assert process.wait(20) in (0, -signal.SIGKILL)


@pytest.fixture
def gateways(tmp_path, until):
    """Starts gateways on machines, and gives their base URLs and the process of each."""
    made = []

    @contextmanager
    def start(*machines, limits=BURST, url=""):
        world = Gateways(tmp_path, limits, url)
        made.append(world)
        records = [world.start(machine) for machine in machines]
        for record in records:
            until(lambda record=record: listens(record))
        world.urls = [json.loads(record.read_text())["url"] for record in records]
        if url:
            until(lambda: all(is_shared(address) for address in world.urls))
        try:
            yield world
        finally:
            world.end()

    return start


def listens(record):
    with suppress(OSError, httpx.TransportError):  # the record is there just before the port is
        return httpx.get(f"{json.loads(record.read_text())['url']}/livez").is_success
    return False


def is_shared(url):
    with suppress(httpx.ConnectError):  # the record is there just before the port is
        return "shipway_limits_shared 1" in httpx.get(f"{url}/metrics").text
    return False


def burst(urls, *, meanwhile=None):
    """The statuses that several processes got, each of which asked both gateways at once."""
    argument = json.dumps([urls, PATH, BODY, EACH])
    callers = [
        subprocess.Popen([sys.executable, "-c", CALLER, argument], stdout=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    if meanwhile is not None:
        meanwhile()
    totals = {}
    for caller in callers:
        output, _ = caller.communicate(timeout=120)
        assert caller.returncode == 0
        for status, number in json.loads(output).items():
            totals[int(status)] = totals.get(int(status), 0) + number
    assert sum(totals.values()) == ASKED
    return totals


def test_machines_with_a_valkey_let_in_exactly_the_allowance(gateways):
    with valkey() as server, gateways("a", "b", url=server.url) as world:
        assert burst(world.urls) == {200: ALLOWED, 429: ASKED - ALLOWED}
        refusal = httpx.post(world.urls[0] + PATH, json=BODY)
        assert refusal.headers["ratelimit-limit"] == str(ALLOWED)
        assert refusal.headers["ratelimit-remaining"] == "0"
        assert int(refusal.headers["retry-after"]) > 1000


def test_gateways_of_one_machine_let_in_exactly_the_allowance_without_any_server(gateways):
    with gateways("a", "a") as world:
        assert burst(world.urls) == {200: ALLOWED, 429: ASKED - ALLOWED}


def test_machines_without_a_valkey_let_in_the_allowance_each_and_no_more(gateways):
    with gateways("a", "b") as world:
        assert burst(world.urls) == {200: 2 * ALLOWED, 429: ASKED - 2 * ALLOWED}


def test_valkey_killed_in_the_burst_fails_no_request_and_lets_in_the_stated_most(gateways, until):
    with valkey() as server, gateways("a", "b", url=server.url) as world:

        def kill():
            until(lambda: counted(world.urls[0]) > 20)
            server.end()

        statuses = burst(world.urls, meanwhile=kill)
        assert set(statuses) <= {200, 429}
        assert ALLOWED <= statuses[200] <= 2 * ALLOWED
        until(lambda: not any(is_shared(asked(url)) for url in world.urls))
        server.start()
        until(lambda: all(is_shared(url) for url in world.urls))
        for name in ("g0", "g1"):
            said = world.log(name).read_text()
            assert "Traceback" not in said
            assert "The ledger of limits at 127.0.0.1" in said
            assert "Each machine counts for itself." in said


def asked(url):
    httpx.post(url + PATH, json=BODY)
    return url


def counted(url):
    """How many requests a gateway has answered, in any way."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    numbers = [line for line in lines if line.startswith("shipway_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in numbers)


def test_rate_over_seconds_is_held_by_gateways_of_one_machine(gateways):
    limits = Limits(rate=RateLimit(per_s=20, burst=10))
    with gateways("a", "a", limits=limits) as world:
        begun = time.monotonic()
        statuses = burst(world.urls)
        assert statuses[200] <= 10 + 20 * (time.monotonic() - begun)
        assert statuses[429] > 0


def test_days_quota_outlives_a_gateway_that_is_killed(gateways, until):
    if time.strftime("%H:%M", time.gmtime()) > "23:55":
        pytest.skip("the day ends")
    with gateways("a", limits=Limits(daily_requests=10)) as world:
        url = world.urls[0]
        assert [httpx.post(url + PATH, json=BODY).status_code for _ in range(6)] == [200] * 6
        world.processes[0].kill()
        world.processes[0].wait(20)
        record = world.start("a")
        until(lambda record=record: listens(record))
        url = json.loads(record.read_text())["url"]
        statuses = [httpx.post(url + PATH, json=BODY).status_code for _ in range(6)]
        assert statuses == [200] * 4 + [429] * 2


def test_limits_of_a_spec_reach_the_gateway_and_the_client_says_them(tmp_path):
    onnx_bundle(tmp_path / "bundle", 2.0)
    with live_server(tmp_path / "state") as server:
        server.register("m", tmp_path / "bundle")
        server.deploy("e", "m:1", limits={"rate": {"per_s": 0.01, "burst": 2}})
        assert server.settled("e")["phase"] == "live"
        answer = server.predict("e", 1)
        assert answer.headers["ratelimit-remaining"] == "1"
        with Client(state_dir=server.state_dir) as client:
            client.predict("e", {"x": [1.0]})
            with pytest.raises(RateLimited) as refused:
                client.predict("e", {"x": [1.0]})
        assert refused.value.details["limit"] == "rate"
        assert refused.value.details["retry_after_s"] > 1
        assert "Endpoint `e` is over its rate" in str(refused.value)
        unknown = server.deploy("e", "m:1", limits={"rate": {"per_s": 0}})
        assert "per_s" in unknown["detail"]
