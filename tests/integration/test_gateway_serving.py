"""A real gateway and real replica processes, without control: the last good snapshot is enough."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest

from shipway.core.bundles import Format, ModelConfig, Served
from shipway.core.endpoints import Limits
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.gateway.pool import LATE_S, PING_TIMEOUT_S
from shipway.testing.bundles import write_bundle
from shipway.wire.link import ping
from shipway.wire.snapshot import OPEN, ReplicaAddress, Route, Snapshot, Variant

REPLICA = Path(__import__("shipway.replica", fromlist=["x"]).__file__).parent / "__main__.py"
CODE = b'''
import os
import time

import numpy as np


class Model:
    """Doubles. 13 is unlucky, 50 takes a second, 99 never ends, 77 tells how many of 50 there were."""

    slow = 0

    def predict(self, inputs):
        x = inputs["x"]
        if (x == 13).any():
            raise ValueError("a secret of the model")
        if (x == 50).any():
            self.slow += 1
            time.sleep(1)
        if (x == 99).any():
            time.sleep(600)
        return {"y": np.where(x == 77, self.slow, x * 2), "pid": np.full(len(x), os.getpid())}
'''
SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="x", dtype=DataType.FP64, maximum=1000, declared=("maximum",)),),
    outputs=(Field(name="y", dtype=DataType.FP64), Field(name="pid", dtype=DataType.INT64)),
)
PATH = "/v2/models/double/infer"
READY = "/v2/models/double/ready"


def body(*values, shape=None, **more):
    tensor = {"name": "x", "shape": shape or [len(values)], "datatype": "FP64", "data": values}
    return {"inputs": [tensor], **more}


class World:
    """One gateway over replicas of one model, all in a directory of their own."""

    def __init__(self, directory):
        self.directory = directory
        self.processes = []
        self.replicas = []
        self.client = None

    def start(self, *, replicas=1, limits=None):
        bundle = self.directory / "bundle"
        manifest = write_bundle(
            bundle,
            files={"model/model.py": CODE},
            artifact="model",
            format=Format.PYTHON,
            options={"class": "model:Model"},
            signature=SIGNATURE,
        )
        addresses = []
        for number in range(replicas):
            address = f"unix:{self.directory}/r{number}.sock"
            command = f"--digest {manifest.digest} --address {address} --id r{number}".split()
            self.replicas.append(
                self._spawn([sys.executable, str(REPLICA), "--bundle", str(bundle), *command])
            )
            addresses.append(ReplicaAddress(id=f"r{number}", address=address))
        variant = Variant(
            model="double", version=1, digest=manifest.digest, weight_pct=100, inline=False,
            bundle_dir=str(bundle), served=Served.ORIGINAL, signature=SIGNATURE,
            config=ModelConfig(), replicas=tuple(addresses),
        )  # fmt: skip
        route = Route(name="double", limits=limits or Limits(), variants=(variant,))
        snapshot = Snapshot.of((route,), OPEN)
        (self.directory / "snapshot.json").write_bytes(msgspec.json.encode(snapshot))
        nowhere = "http://127.0.0.1:9"
        options = f"--state-dir {self.directory} --control-url {nowhere} --port 0 --id g".split()
        self._spawn([sys.executable, "-m", "shipway.gateway", *options])
        record = self.directory / "run" / "g.json"
        until(lambda: record.exists() or self._failed())
        self.client = httpx.Client(base_url=json.loads(record.read_text())["url"], timeout=20)
        until(lambda: self.is_ready() or self._failed())
        return self

    def _failed(self):
        assert all(process.poll() is None for process in self.processes), self.log()

    def _spawn(self, command):
        log = (self.directory / "log").open("ab")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def is_ready(self):
        with suppress(httpx.HTTPError):
            return self.client.get("/v2/models/double/ready").status_code == 200
        return False

    def log(self):
        return (self.directory / "log").read_text()

    def infer(self, *values, **more):
        return self.client.post(PATH, json=body(*values, **more))

    def stop(self):
        if self.client:
            self.client.close()
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)


def until(claim, within_s=30.0):
    end = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < end, f"{claim} did not become true in {within_s} s"
        time.sleep(0.02)


def outputs(answer):
    assert answer.status_code == 200, answer.text
    return {o["name"]: o["data"] for o in answer.json()["outputs"]}


@pytest.fixture
def world():
    with tempfile.TemporaryDirectory(prefix="shipway-gw-") as directory:
        made = World(Path(directory))
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="module")
def shared():
    with tempfile.TemporaryDirectory(prefix="shipway-gw-") as directory:
        limits = Limits(max_body_bytes=200_000, max_queue=200, deadline_ms=3000)
        made = World(Path(directory))
        try:
            yield made.start(limits=limits)
        finally:
            made.stop()


def test_every_caller_gets_its_own_answer_when_requests_share_batches(shared):
    async def ask_all():
        async with httpx.AsyncClient(base_url=shared.client.base_url, timeout=20) as client:
            asked = [(float(n), float(n) + 0.5) for n in range(100, 250)]
            answers = await asyncio.gather(
                *(client.post(PATH, json=body(*values)) for values in asked)
            )
            return list(zip(asked, answers, strict=True))

    for values, answer in asyncio.run(ask_all()):
        assert outputs(answer)["y"] == [2 * value for value in values]


def test_failure_in_a_shared_batch_is_its_own(shared):
    async def ask_all():
        async with httpx.AsyncClient(base_url=shared.client.base_url, timeout=20) as client:
            values = [13.0 if n % 10 == 0 else float(n + 100) for n in range(60)]
            answers = await asyncio.gather(*(client.post(PATH, json=body(v)) for v in values))
            return list(zip(values, answers, strict=True))

    for value, answer in asyncio.run(ask_all()):
        if value == 13.0:
            assert answer.status_code == 500
        else:
            assert outputs(answer)["y"] == [2 * value]


def test_mlserver_514_each_of_a_batch_gets_the_outputs_that_it_asked_for(shared):
    wanted = [["y"], ["pid"], ["pid", "y"], []]

    async def ask_all():
        async with httpx.AsyncClient(base_url=shared.client.base_url, timeout=20) as client:
            busy = asyncio.create_task(client.post(PATH, json=body(50)))
            address = f"unix:{shared.directory}/r0.sock"
            async with asyncio.timeout(10):
                while (await ping(address, 1)).busy_s == 0:  # noqa: ASYNC110 - a process
                    await asyncio.sleep(0.01)
            # The model takes a second: these wait for it together.
            asked = [
                client.post(PATH, json=body(n, outputs=[{"name": name} for name in names]))
                for n, names in enumerate(wanted)
            ]
            answers = await asyncio.gather(*asked)
            await busy
            return answers

    for n, (names, answer) in enumerate(zip(wanted, asyncio.run(ask_all()), strict=True)):
        given = outputs(answer)
        assert list(given) == (names or ["y", "pid"])
        assert given.get("y", [2.0 * n]) == [2.0 * n]


def test_raising_model_gets_500_with_an_incident_and_keeps_its_traceback_to_the_log(shared):
    answer = shared.infer(13)
    assert answer.status_code == 500
    incident = answer.json()["details"]["incident"]
    assert incident in answer.json()["error"]
    assert "secret" not in answer.text
    log = shared.log()
    assert incident in log
    assert "a secret of the model" in log


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b'{"inputs": x}', 400, "byte 11"),
        (b'{"inputs": 1}', 400, "$.inputs"),
        (json.dumps(body(1, 2, shape=[3])), 400, "$.inputs[0].data"),
        (json.dumps(body(1, 2, shape=[1, 2])), 400, "[rows] or [rows, 1]"),
        (json.dumps(body(1, outputs=[{"name": "z"}])), 400, "no output `z`"),
        (json.dumps({"inputs": [{**body(1)["inputs"][0], "name": "xx"}]}), 400, "`x`"),
        (json.dumps({"inputs": []}), 422, "`x` is missing"),
        (json.dumps(body(1, "a")), 422, "Column `x`, row 1: 'a' breaks the rule `dtype FP64`"),
        (json.dumps(body(1, None)), 422, "Column `x`, row 1: null breaks the rule `not null`"),
        (
            json.dumps(body(1, 2000)),
            422,
            "Column `x`, row 1: 2000.0 breaks the rule `maximum 1000`",
        ),
        (b"[1" + b", 1" * 100_000 + b"]", 413, "200000 bytes"),
    ],
)
def test_bad_input_gets_its_documented_answer(shared, content, status, words):
    answer = shared.client.post(PATH, content=content)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_oversized_body_without_a_length_is_refused_while_it_arrives(shared):
    def chunks():
        for _ in range(40):
            yield b"x" * 10_000

    assert shared.client.post(PATH, content=chunks()).status_code == 413


def test_unknown_endpoint_and_version_name_the_nearest(shared):
    answer = shared.client.post("/v2/models/duoble/infer", json=body(1))
    assert answer.status_code == 404
    assert "`duoble`" in answer.json()["error"]
    assert "Did you mean `double`?" in answer.json()["error"]
    answer = shared.client.post("/v2/models/double/versions/2/infer", json=body(1))
    assert answer.status_code == 404
    assert "double/versions/1" in answer.json()["error"]


def test_requested_outputs_are_honoured_in_order(shared):
    answer = shared.infer(1, outputs=[{"name": "pid"}, {"name": "y"}])
    assert [o["name"] for o in answer.json()["outputs"]] == ["pid", "y"]
    assert list(outputs(shared.infer(1, outputs=[{"name": "y"}]))) == ["y"]


def test_id_is_echoed_and_the_version_named(shared):
    answer = shared.infer(1, id="q-7").json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("q-7", "double", "1")


def test_pings_are_answered_while_the_model_computes(shared):
    async def ask():
        async with httpx.AsyncClient(base_url=shared.client.base_url, timeout=20) as client:
            slow = asyncio.ensure_future(client.post(PATH, json=body(50)))
            while not slow.done():
                ready = await client.get("/v2/models/double/ready")
                assert ready.status_code == 200
                await asyncio.sleep(0.05)
            return await slow

    assert outputs(asyncio.run(ask()))["y"] == [100]


def test_past_deadline_gets_504_and_full_queue_429_at_once(world):
    world.start(limits=Limits(deadline_ms=500, max_queue=2))

    async def ask():
        async with httpx.AsyncClient(base_url=world.client.base_url, timeout=20) as client:
            slow = [asyncio.ensure_future(client.post(PATH, json=body(50))) for _ in range(2)]
            await asyncio.sleep(0.2)
            refused = await client.post(PATH, json=body(1))
            was_first = not any(answer.done() for answer in slow)
            return refused, was_first, await asyncio.gather(*slow)

    refused, was_first, late = asyncio.run(ask())
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert was_first
    assert [answer.status_code for answer in late] == [504, 504]


def test_callers_own_deadline_counts_and_expired_requests_never_reach_the_model(shared):
    (before,) = outputs(shared.infer(77))["y"]

    async def ask():
        async with httpx.AsyncClient(base_url=shared.client.base_url, timeout=20) as client:
            slow = asyncio.ensure_future(client.post(PATH, json=body(50)))
            await asyncio.sleep(0.1)
            late = await asyncio.gather(
                client.post(PATH, json=body(50, 50), headers={"X-Request-Timeout-Ms": "200"}),
                client.post(PATH, json=body(50, 50, 50, parameters={"timeout": 200_000})),
            )
            were_first = not slow.done()
            await slow
            return late, were_first, await client.post(PATH, json=body(77))

    late, were_first, after = asyncio.run(ask())
    assert [answer.status_code for answer in late] == [504, 504]
    assert were_first
    assert outputs(after)["y"] == [before + 1]


def test_request_inside_a_killed_replica_is_answered_by_another(world):
    world.start(replicas=2)
    until(lambda: len({outputs(world.infer(1))["pid"][0] for _ in range(10)}) >= 1)

    async def ask():
        async with httpx.AsyncClient(base_url=world.client.base_url, timeout=20) as client:
            slow = [asyncio.ensure_future(client.post(PATH, json=body(50))) for _ in range(2)]
            await asyncio.sleep(0.4)
            world.replicas[0].kill()
            return await asyncio.gather(*slow)

    pids = [outputs(answer)["pid"][0] for answer in asyncio.run(ask())]
    assert set(pids) == {world.replicas[1].pid}
    assert world.is_ready()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_dead_or_hung_replica_turns_readiness_red_within_two_seconds_and_nobody_hangs(
    world, number
):
    world.start()

    async def ask():
        async with httpx.AsyncClient(base_url=world.client.base_url, timeout=20) as client:
            inside = asyncio.ensure_future(client.post(PATH, json=body(50)))
            await asyncio.sleep(0.3)
            os.kill(world.replicas[0].pid, number)
            started, slowest_s, is_ready = time.monotonic(), 0.0, True
            while is_ready:
                asked = time.monotonic()
                is_ready = (await client.get(READY)).status_code == 200
                await asyncio.sleep(0.01)
                slowest_s = max(slowest_s, time.monotonic() - asked)
            red_s = time.monotonic() - started
            answer = await inside
            return red_s, slowest_s, answer, await client.post(PATH, json=body(1))

    red_s, slowest_s, inside, after = asyncio.run(ask())
    # A gateway that did not come round itself asks once more; who asks it, too, sees the machine stand still.
    was_late = slowest_s >= LATE_S / 2
    assert red_s < 2.0 + was_late * (PING_TIMEOUT_S + slowest_s)
    assert (inside.status_code, after.status_code) == (503, 503)
    assert inside.json()["code"] in ("replica_lost", "no_ready_replica")
    assert after.headers["retry-after"]


def test_model_call_that_never_ends_makes_its_replica_unready_after_the_deadline(world):
    world.start(limits=Limits(deadline_ms=800))
    assert world.infer(99).status_code == 504
    until(lambda: not world.is_ready(), within_s=3)
    assert world.infer(1).status_code == 503


def test_callers_that_leave_take_their_requests_out_of_the_replicas_queue(world):
    world.start()

    async def ask():
        async with httpx.AsyncClient(base_url=world.client.base_url, timeout=0.3) as impatient:
            asked = (impatient.post(PATH, json=body(50, 50, shape=[2, 1])) for _ in range(20))
            left = await asyncio.gather(*asked, return_exceptions=True)
        async with httpx.AsyncClient(base_url=world.client.base_url, timeout=20) as patient:
            started = time.monotonic()
            answer = await patient.post(PATH, json=body(1))
            return left, answer, time.monotonic() - started

    left, answer, took_s = asyncio.run(ask())
    assert all(isinstance(error, httpx.TimeoutException) for error in left)
    assert outputs(answer)["y"] == [2]
    assert took_s < 3  # at most the batch that had begun, not twenty


def test_replica_finishes_what_it_has_when_told_to_stop(world):
    world.start()

    async def ask():
        async with httpx.AsyncClient(base_url=world.client.base_url, timeout=20) as client:
            inside = asyncio.ensure_future(client.post(PATH, json=body(50)))
            await asyncio.sleep(0.3)
            world.replicas[0].terminate()
            return await inside

    assert outputs(asyncio.run(ask()))["y"] == [100]
    assert world.replicas[0].wait(10) == 0


def test_binary_tensors_go_both_ways(shared):
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [2],
                    "datatype": "FP64",
                    "parameters": {"binary_data_size": 16},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    values = np.array([1.5, 2.5])
    answer = shared.client.post(
        PATH,
        content=head + values.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    first = json.loads(answer.content[:length])["outputs"][0]
    size = first["parameters"]["binary_data_size"]
    received = np.frombuffer(answer.content[length : length + size])
    np.testing.assert_array_equal(received, values * 2)


def test_changed_bytes_are_refused_at_load_naming_the_file(tmp_path):
    manifest = write_bundle(tmp_path / "b", files={"model/model.py": CODE}, artifact="model")
    (tmp_path / "b" / "model" / "model.py").write_bytes(CODE + b"#")
    done = subprocess.run(
        [sys.executable, str(REPLICA), "--bundle", str(tmp_path / "b"), "--digest",
         manifest.digest, "--address", f"unix:{tmp_path}/s", "--id", "r"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    failure = json.loads(done.stderr.strip().splitlines()[-1])
    assert failure["error"] == "bundle_corrupt"
    assert "model/model.py" in failure["message"]
