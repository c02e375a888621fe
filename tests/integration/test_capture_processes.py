"""Real gateways that capture: killed, with a full disk, with control away, two at a time."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec
import pytest

from shipway.core.bundles import ModelConfig, Served
from shipway.core.capturing import Capture, Durability
from shipway.core.endpoints import Limits
from shipway.gateway.segments import complete
from shipway.testing.live import SIGNATURE, onnx_bundle
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant
from shipway.wire.spool import mended

sys.path.insert(0, str(Path(__file__).parent))
from segments import read_segment

BUFFERED = Capture()
SYNCED = Capture(durability=Durability.SYNCED)


def until(claim, within_s=40.0):
    end = time.monotonic() + within_s
    while not (value := claim()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
    return value


class Control:
    """Takes segments at `/internal/v1/segments`; nothing else is known to it. Down until started."""

    def __init__(self):
        self.segments = []
        self.is_up = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                is_segment = self.path == "/internal/v1/segments" and outer.is_up
                if is_segment:
                    outer.segments.append(read_segment(body))
                self.send_response(204 if is_segment else 503)
                self.end_headers()

            def do_GET(self):
                self.send_response(503)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def ids(self):
        """The request ids that have come, each segment once, as control takes them."""
        segments = {segment.id: segment for segment in self.segments}
        return Counter(one.request_id for s in segments.values() for one in s.predictions)

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Machine:
    """Gateways that share a port and a spool, with one model in each."""

    def __init__(self, directory, control, capture):
        self.directory = directory
        self.control = control
        self.gateways = {}
        self.url = ""
        self._log = (directory / "log").open("ab")
        manifest = onnx_bundle(directory / "bundle", 3)
        variant = Variant(
            model="main", version=1, digest=manifest.digest, weight_pct=100, inline=True,
            bundle_dir=str(directory / "bundle"), served=Served.ONNX, signature=SIGNATURE,
            config=ModelConfig(),
        )  # fmt: skip
        route = Route(name="main", limits=Limits(), variants=(variant,), capture=capture)
        content = msgspec.json.encode(Snapshot.of((route,), OPEN))
        (directory / "snapshot.json").write_bytes(content)

    @property
    def spool(self):
        return self.directory / "spool"

    def start(self, name):
        port = self.url.rpartition(":")[2] or "0"
        options = f"--state-dir {self.directory} --control-url {self.control.url} --id {name}"
        command = f"{options} --port {port} --grpc-port 0".split()
        process = subprocess.Popen(
            [sys.executable, "-m", "shipway.gateway", *command], stdout=self._log, stderr=self._log
        )
        self.gateways[name] = process
        record = self.directory / "run" / f"{name}.json"
        until(record.exists)
        self.url = json.loads(record.read_text())["url"]
        until(lambda: self.get("/v2/models/main/ready") == 200)
        return process

    def kill(self, name):
        process = self.gateways.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        (self.directory / "run" / f"{name}.json").unlink()

    def get(self, path):
        with suppress(httpx.HTTPError):
            return httpx.get(self.url + path, timeout=10).status_code
        return 0

    def counted(self, name):
        """The sum of a metric over all gateways of the machine."""
        page = httpx.get(f"{self.url}/metrics", timeout=10).text
        return sum(float(n) for n in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))

    def ids(self):
        """What a crash of everything, now, would leave on disk."""
        read = [read_segment(mended(path.read_bytes())) for path in complete(self.spool)]
        return Counter(one.request_id for s in read if s is not None for one in s.predictions)

    def stop(self):
        for process in self.gateways.values():
            process.kill()
            process.wait(10)
        self._log.close()


class Load:
    """Callers that ask as fast as they are answered. `acknowledged` are the ids that got a 200."""

    def __init__(self, url, callers=8):
        self.acknowledged, self.statuses = [], Counter()
        self._url = url
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(callers)
        ]

    def _run(self, caller):
        number = 0
        with httpx.Client(timeout=10) as client:
            while not self._stopping.is_set():
                number += 1
                try:
                    answer = ask(client, self._url, f"{id(self)}-{caller}-{number}")
                except httpx.HTTPError:
                    time.sleep(0.01)
                    continue
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    self.acknowledged.append(answer.headers["x-request-id"])

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join()


def ask(client, url, request_id):
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}
    body = {"id": request_id, "inputs": [tensor]}
    return client.post(f"{url}/v2/models/main/infer", json=body)


@contextmanager
def machine_with(capture):
    with tempfile.TemporaryDirectory(prefix="shipway-spool-") as directory:
        control = Control()
        made = Machine(Path(directory), control, capture)
        try:
            yield made
        finally:
            made.stop()
            control.close()


def test_kill_9_under_load_loses_no_acknowledged_prediction_where_synced():
    with machine_with(SYNCED) as machine:
        acknowledged = []
        for _ in range(3):
            machine.start("one")
            with Load(machine.url) as load:
                until(lambda load=load: len(load.acknowledged) > 100)
                machine.kill("one")
            assert set(load.statuses) == {200}
            acknowledged += load.acknowledged
        found = machine.ids()
        assert len(acknowledged) > 300
        assert [one for one in acknowledged if one not in found] == []
        assert max(found.values()) == 1


def test_the_other_gateway_sends_what_a_killed_one_left():
    with machine_with(SYNCED) as machine:
        machine.control.is_up = True
        machine.start("one")
        machine.start("two")
        with Load(machine.url) as load:
            until(lambda: len(load.acknowledged) > 100)
            machine.kill("one")
            before = len(load.acknowledged)
            until(lambda: len(load.acknowledged) > before + 100)
        until(lambda: not set(load.acknowledged) - set(machine.control.ids()))
        assert max(machine.control.ids().values()) == 1
        until(lambda: os.listdir(machine.spool) == [])
        assert all(segment.is_sealed for segment in machine.control.segments)


@pytest.mark.parametrize("capture", [BUFFERED, SYNCED], ids=["buffered", "synced"])
def test_segments_wait_for_control_and_arrive_once(capture):
    with machine_with(capture) as machine:
        machine.start("one")
        with Load(machine.url, 2) as load:
            until(lambda: len(load.acknowledged) > 50)
            until(lambda: len(complete(machine.spool)) > 1)
            machine.control.is_up = True
            until(lambda: machine.control.segments)
        until(lambda: set(machine.control.ids()) == set(load.acknowledged))
        assert max(machine.control.ids().values()) == 1
        assert machine.counted("shipway_predictions_captured_total") == len(load.acknowledged)
        assert machine.counted("shipway_predictions_lost_total") == 0


def test_a_gateway_that_ends_sends_what_it_has():
    with machine_with(BUFFERED) as machine:
        machine.control.is_up = True
        process = machine.start("one")
        with httpx.Client(timeout=30) as client:
            for number in range(20):
                assert ask(client, machine.url, f"r{number}").status_code == 200
        process.terminate()
        assert process.wait(20) == 0
        assert set(machine.control.ids()) == {f"r{number}" for number in range(20)}
        assert os.listdir(machine.spool) == []


def test_with_a_full_disk_serving_goes_on_and_the_loss_is_counted():
    with machine_with(BUFFERED) as machine:
        process = machine.start("one")
        with Load(machine.url, 4) as load:
            until(lambda: machine.counted("shipway_predictions_captured_total") > 20)
            limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10, limits[1]))
            before = len(load.acknowledged)
            until(lambda: len(load.acknowledged) > before + 200)
            whole = machine.ids()
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
            until(lambda: len(machine.ids()) > len(whole) + 20)
        assert set(load.statuses) == {200}
        until(
            lambda: (
                machine.counted("shipway_predictions_captured_total")
                + machine.counted("shipway_predictions_lost_total")
                == len(load.acknowledged)
            )
        )
        assert set(whole) <= set(machine.ids())
        for path in complete(machine.spool)[:-1]:
            data = path.read_bytes()
            assert read_segment(data).good_bytes == len(data)


def test_with_a_full_disk_what_is_synced_is_refused_until_there_is_room():
    with machine_with(SYNCED) as machine:
        process = machine.start("one")
        with httpx.Client(timeout=10) as client:
            assert ask(client, machine.url, "a").status_code == 200
            limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10, limits[1]))
            refused = ask(client, machine.url, "b")
            assert refused.status_code == 503
            assert "could not be recorded" in refused.text
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
            assert ask(client, machine.url, "c").status_code == 200
        assert set(machine.ids()) == {"a", "c"}
