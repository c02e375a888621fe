"""Several gateways on one port of one machine: one limit, one set of counts, whatever dies."""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shipway.core.bundles import Format, ModelConfig
from shipway.core.endpoints import Limits
from shipway.core.telemetry import Column
from shipway.gateway.neighbours import PAST, Neighbours
from shipway.testing.bundles import write_bundle
from shipway.testing.live import SIGNATURE
from shipway.wire.snapshot import OPEN, ReplicaAddress, Route, Snapshot, Variant

REPLICA = Path(__import__("shipway.replica", fromlist=["x"]).__file__).parent / "__main__.py"
MAX_QUEUE = 4
CODE = b'''
import time


class Model:
    """Doubles; 13 is unlucky, other numbers are how many milliseconds it takes."""

    def predict(self, inputs):
        x = inputs["x"]
        if (x == 13).any():
            raise ValueError("unlucky")
        time.sleep(float(x.sum()) / 1000)
        return {"y": x * 2}
'''


def body(value):
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}
    return {"inputs": [tensor]}


def until(claim, within_s=30.0):
    end = time.monotonic() + within_s
    while not (value := claim()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
    return value


class Machine:
    """One slow replica, and gateways that share a port."""

    def __init__(self, directory):
        self.directory = directory
        self.gateways = {}
        self.url = ""
        self._log = (directory / "log").open("ab")
        manifest = write_bundle(
            directory / "bundle",
            files={"model/model.py": CODE},
            artifact="model",
            format=Format.PYTHON,
            options={"class": "model:Model"},
            signature=SIGNATURE,
        )
        address = f"unix:{directory}/r.sock"
        options = f"--digest {manifest.digest} --address {address} --id r".split()
        self._replica = self._spawn(
            [sys.executable, str(REPLICA), "--bundle", str(directory / "bundle"), *options]
        )
        variant = Variant(
            model="double", version=1, digest=manifest.digest, weight_pct=100, inline=False,
            bundle_dir=str(directory / "bundle"), served=manifest.content.served,
            signature=SIGNATURE, config=ModelConfig(),
            replicas=(ReplicaAddress(id="r", address=address),),
        )  # fmt: skip
        limits = Limits(max_queue=MAX_QUEUE, deadline_ms=5000, max_batch_rows=1)
        snapshot = Snapshot.of((Route(name="double", limits=limits, variants=(variant,)),), OPEN)
        (directory / "snapshot.json").write_bytes(msgspec.json.encode(snapshot))

    def _spawn(self, command):
        return subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def start(self, name):
        port = self.url.rpartition(":")[2] or "0"
        options = f"--state-dir {self.directory} --control-url http://127.0.0.1:9 --id {name}"
        command = f"{options} --port {port} --grpc-port 0".split()
        self.gateways[name] = self._spawn([sys.executable, "-m", "shipway.gateway", *command])
        record = self.directory / "run" / f"{name}.json"
        until(record.exists)
        self.url = json.loads(record.read_text())["url"]
        until(lambda: self.counts()["shipway_gateways"] == len(self.gateways))
        until(lambda: self._get("/v2/models/double/ready").status_code == 200)

    def kill(self, name):
        process = self.gateways.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        (self.directory / "run" / f"{name}.json").unlink()

    def _get(self, path):
        for _ in range(50):
            with suppress(httpx.HTTPError):
                return httpx.get(self.url + path, timeout=10)
            time.sleep(0.02)
        raise AssertionError((self.directory / "log").read_text())

    def counts(self):
        return counts_of(self._get("/metrics"))

    def counters(self):
        return self.directory / "run" / "counters"

    def stop(self):
        for process in (*self.gateways.values(), self._replica):
            process.kill()
            process.wait(10)
        self._log.close()


def counts_of(answer):
    """Sums by metric and, for requests, by outcome."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    sums = Counter()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if "le" not in sample.labels or sample.labels["le"] == "+Inf":
                sums[sample.name] += sample.value
            if "outcome" in sample.labels:
                sums[sample.labels["outcome"]] += sample.value
    return sums


@pytest.fixture
def machine():
    with tempfile.TemporaryDirectory(prefix="shipway-gw-") as directory:
        made = Machine(Path(directory))
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture
def pair(machine):
    machine.start("one")
    machine.start("two")
    return machine


async def ask(url, value):
    """One request on a connection of its own, so that either gateway may get it."""
    async with httpx.AsyncClient(timeout=20) as client:
        return (await client.post(f"{url}/v2/models/double/infer", json=body(value))).status_code


def ask_all(url, values):
    async def asked():
        return await asyncio.gather(*(ask(url, value) for value in values))

    return Counter(asyncio.run(asked()))


class Observer:
    """Reads the two gateways' rows as fast as it can, as each of them reads the other's."""

    def __init__(self, directory):
        self._neighbours = Neighbours(directory, "")
        self._neighbours.look()
        self.most = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        first, second = self._neighbours.values(("double", ""))
        while not self._stopping.is_set():
            before, other = first[Column.IN_FLIGHT], second[Column.IN_FLIGHT]
            if first[Column.IN_FLIGHT] == before:  # else a request may have been seen twice
                self.most = max(self.most, before + other)
            time.sleep(0)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._thread.join()
        self._neighbours.close()


def test_limit_holds_over_all_gateways_but_for_one_request_of_each_other(pair):
    statuses = Counter()

    async def insist(end):
        while time.monotonic() < end:
            statuses.update([await ask(pair.url, 5.0)])

    async def flood():
        await asyncio.gather(*(insist(time.monotonic() + 3) for _ in range(16)))

    with Observer(pair.counters()) as seen:
        asyncio.run(flood())
    assert MAX_QUEUE <= seen.most <= MAX_QUEUE + 1
    assert set(statuses) == {200, 429}


def test_sums_over_gateways_are_what_was_sent(pair):
    sent = Counter()
    for value in [1.0, 13.0, "x"] * 8:
        sent.update(ask_all(pair.url, [value]))
    sent.update(ask_all(pair.url, [200.0] * 20))
    lost = httpx.post(f"{pair.url}/v2/models/nothing/infer", json=body(1.0))
    counts = pair.counts()
    assert lost.status_code == 404
    assert (sent[500], sent[422]) == (8, 8)
    assert counts["ok"] == counts["shipway_request_seconds_count"] == sent[200]
    assert (counts["failed"], counts["caller"], counts["shed"]) == (8, 9, sent[429])
    assert counts["shipway_requests_total"] == sum(sent.values()) + 1
    assert counts["shipway_queue_limit"] == MAX_QUEUE
    assert counts["shipway_replicas_ready"] == 1
    until(lambda: pair.counts()["shipway_in_flight"] == 0, within_s=2)


def test_both_gateways_get_connections(pair):
    for _ in range(20):
        ask_all(pair.url, [0.0] * 3)
    neighbours = Neighbours(pair.counters(), "")
    neighbours.look()
    assert [sum(row) > 0 for row in neighbours.values(("double", "double:1"))] == [True, True]
    neighbours.close()


def test_killed_gateways_counts_stay_and_what_was_inside_it_is_gone(pair):
    before = sum(ask_all(pair.url, [1.0] * 3).values())

    async def killed_inside():
        asked = [asyncio.ensure_future(ask(pair.url, 3000.0)) for _ in range(MAX_QUEUE)]
        await asyncio.to_thread(until, lambda: pair.counts()["shipway_in_flight"] == MAX_QUEUE)
        await asyncio.to_thread(pair.kill, "one")
        gone_at = time.monotonic()
        await asyncio.to_thread(until, lambda: pair.counts()["shipway_gateways"] == 1)
        took_s = time.monotonic() - gone_at
        left = (await asyncio.to_thread(pair.counts))["shipway_in_flight"]
        results = await asyncio.gather(*asked, return_exceptions=True)
        return took_s, left, sum(isinstance(one, httpx.HTTPError) for one in results)

    took_s, left, lost = asyncio.run(killed_inside())
    assert took_s < 0.5
    assert left == MAX_QUEUE - lost
    until(lambda: (pair.counters() / PAST).exists())
    until(lambda: len(list(pair.counters().glob("*.bin"))) == 2)  # the other's, and the past
    assert pair.counts()["shipway_requests_total"] == before + MAX_QUEUE - lost
    pair.start("one")
    assert pair.counts()["shipway_requests_total"] == before + MAX_QUEUE - lost


def test_limit_is_whole_again_once_a_gateway_that_held_it_is_killed(pair):
    async def killed_full():
        asked = [asyncio.ensure_future(ask(pair.url, 3000.0)) for _ in range(MAX_QUEUE)]
        await asyncio.to_thread(until, lambda: pair.counts()["shipway_in_flight"] == MAX_QUEUE)
        refused = await ask(pair.url, 1.0)
        pair.kill("one")
        pair.kill("two")
        await asyncio.gather(*asked, return_exceptions=True)
        return refused

    assert asyncio.run(killed_full()) == 429
    pair.url = ""
    pair.start("three")
    assert pair.counts()["shipway_in_flight"] == 0
    assert pair.counts()["shed"] == 1


def test_gateway_without_room_for_its_counters_serves_and_says_so_once(machine):
    machine.counters().parent.mkdir()
    machine.counters().write_text("not a directory")
    machine.start("one")
    assert ask_all(machine.url, [1.0] * 2) == {200: 2}
    assert machine.counts()["ok"] == 2
    log = (machine.directory / "log").read_text()
    assert log.count("The counters are not shared") == 1
