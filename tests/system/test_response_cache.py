"""Whole servers with a response cache: replicas that count, several gateways, a real Valkey."""

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import msgspec
import pytest

from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Cache, Limits
from shipway.testing.live import SIGNATURE, live_server, onnx_bundle, python_bundle
from shipway.testing.servers import valkey
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant

COUNTING = """
import time

class Model:
    def predict(self, inputs):
        x = inputs["x"]
        if (x == 13).any():
            raise ValueError("unlucky")
        print("counted", len(x), flush=True)
        time.sleep(0.2)
        return {{"y": x * {factor}}}
"""
PATH = "/v2/models/e/infer"


def body(value):
    return {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}]}


def mark_of(answer):
    return answer.headers.get("x-shipway-cache")


def test_fifty_equal_requests_run_the_model_once_and_a_new_version_starts_over(tmp_path):
    with live_server(tmp_path / "state") as server:
        for factor in (2, 5):
            code = COUNTING.format(factor=factor)
            python_bundle(tmp_path / f"{factor}", code)
            server.register("m", tmp_path / f"{factor}")
        server.deploy("e", "m:1", cache={"ttl_s": 600})
        assert server.settled("e")["phase"] == "live"

        async def ask_all(value):
            options = {"base_url": server.running.gateway_url, "headers": server.headers}
            async with httpx.AsyncClient(**options, timeout=30) as client:
                asked = (client.post(PATH, json=body(value)) for _ in range(50))
                return await asyncio.gather(*asked)

        answers = asyncio.run(ask_all(3))
        assert {a.json()["outputs"][0]["data"][0] for a in answers} == {6}
        assert sorted(map(str, map(mark_of, answers))) == ["None", *["hit"] * 49]
        lines = server.control.get("/endpoints/e/logs").json()["lines"]
        assert [line.rpartition(" | ")[2] for line in lines if "counted" in line] == ["counted 1"]
        # One failure for all who asked at once, none of it kept.
        assert {a.status_code for a in asyncio.run(ask_all(13))} == {500}
        server.deploy("e", "m:2", cache={"ttl_s": 600})
        server.until(lambda: server.endpoint("e")["active"] == "m:2")
        server.until(lambda: server.answers("e", 3) == 15)
        assert mark_of(server.predict("e", 3)) == "hit"
        assert server.answers("e", 3) == 15


@contextmanager
def gateways(directory, url, count):
    """Gateway processes of one inline model, without control; their base URLs."""
    manifest = onnx_bundle(directory / "bundle", 2.0)
    variant = Variant(
        model="m", version=1, digest=manifest.digest, weight_pct=100, inline=True,
        bundle_dir=str(directory / "bundle"), served=Served.ONNX, signature=SIGNATURE,
        config=ModelConfig(),
    )  # fmt: skip
    route = Route(name="e", limits=Limits(), variants=(variant,), cache=Cache(ttl_s=600))
    (directory / "snapshot.json").write_bytes(msgspec.json.encode(Snapshot.of((route,), OPEN)))
    environment = {**os.environ, "SHIPWAY_CACHE_URL": url}
    processes = []
    try:
        for number in range(count):
            options = ["--control-url", "http://127.0.0.1:9", "--port", "0", "--id", f"g{number}"]
            command = [sys.executable, "-m", "shipway.gateway", "--state-dir", str(directory)]
            with (directory / f"log{number}").open("wb") as log:
                processes.append(
                    subprocess.Popen([*command, *options], stderr=log, env=environment)
                )
        yield [directory / "run" / f"g{number}.json" for number in range(count)]
    finally:
        for process in processes:
            process.terminate()
            assert process.wait(20) == 0


@pytest.fixture
def asked(tmp_path, until):
    """A Valkey, and functions that ask each of two gateways."""
    with valkey() as server, gateways(tmp_path, server.url, 2) as records:
        for record in records:
            until(record.exists)
        urls = [json.loads(record.read_text())["url"] for record in records]
        with httpx.Client(base_url=urls[0], timeout=20) as a, httpx.Client(base_url=urls[1]) as b:
            yield server, [lambda value, c=c: c.post(PATH, json=body(value)) for c in (a, b)]


def is_shared(first, second, value):
    """Whether what the first gateway answered is a hit of the second."""
    return first(value).is_success and mark_of(second(value)) == "hit"


def test_gateways_share_hits_and_lose_no_request_with_valkey(asked, tmp_path, until):
    server, (first, second) = asked
    until(lambda: is_shared(first, second, 3))
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(_ask_many, ask, server if n == 0 else None)
            for n, ask in enumerate((first, second))
        ]
        statuses = [status for future in both for status in future.result()]
    assert statuses == [200] * 1000
    server.start()
    until(lambda: is_shared(first, second, 4))
    for number in range(2):
        said = (tmp_path / f"log{number}").read_text()
        assert "Traceback" not in said
        # Once per outage, not per request; a busy machine may make an outage of its own.
        assert 1 <= said.count("does not answer") <= 5
        assert said.count("does not answer") == said.count("answers again")


def _ask_many(ask, server):
    statuses = []
    for n in range(500):
        if n == 100 and server is not None:
            server.end()
        answer = ask(n)
        assert answer.json()["outputs"][0]["data"] == [2 * n]
        statuses.append(answer.status_code)
    return statuses
