"""Control and gateway run as processes of their own, and each does without the other for a while."""

import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from shipway.backends.records import end_all
from shipway.client.synchronous import Client
from shipway.store.api_keys import ADMIN, key_path
from shipway.testing.live import onnx_bundle, python_bundle
from shipway.testing.servers import free_port

CODE = """
class Model:
    def predict(self, inputs):
        return {"y": inputs["x"] * 3}
"""
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [2.0]}]}


class Roles:
    """`shipway control` and `shipway gateway` on fixed ports, started and killed one by one."""

    def __init__(self, directory):
        self.directory = directory
        self.state = directory / "state"
        self.ports = {"control": free_port(), "gateway": free_port()}
        self.urls = {role: f"http://127.0.0.1:{port}" for role, port in self.ports.items()}
        self.running = {}

    def start(self, role):
        options = ["--dir", str(self.state), "--port", str(self.ports[role])]
        if role == "gateway":
            options += ["--control-url", self.urls["control"], "--grpc-port", "0"]
        with (self.directory / f"{role}.log").open("ab") as log:
            command = [sys.executable, "-m", "shipway.cli", role, *options]
            self.running[role] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, role):
        self.running[role].kill()
        self.running.pop(role).wait(10)

    def end(self):
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            process.wait(20)
        end_all(self.state, grace_s=2)

    def answers(self, endpoint):
        with suppress(httpx.HTTPError, KeyError):
            url = f"{self.urls['gateway']}/v2/models/{endpoint}/infer"
            answer = httpx.post(url, json=BODY, headers={"authorization": f"Bearer {self.key}"})
            return answer.json()["outputs"][0]["data"][0]
        return None

    @property
    def key(self):
        return key_path(self.state, ADMIN).read_text().strip()

    def control_is_up(self):
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.urls['control']}/api/v1/health").is_success
        return False


@pytest.fixture
def roles():
    with tempfile.TemporaryDirectory(prefix="shipway-roles-") as name:
        made = Roles(Path(name))
        try:
            yield made
        finally:
            made.end()


def test_with_control_killed_a_restarted_gateway_answers_and_catches_up_when_it_returns(
    roles, until, tmp_path
):
    roles.start("control")
    roles.start("gateway")
    until(roles.control_is_up)
    for number, factor in enumerate((10, 20), 1):
        onnx_bundle(tmp_path / f"inline{number}", factor)
    python_bundle(tmp_path / "apart", CODE)
    urls = roles.urls
    with Client(urls["control"], gateway=urls["gateway"], key=roles.key) as client:
        client.register(tmp_path / "inline1", name="inline")
        client.register(tmp_path / "inline2", name="inline")
        client.register(tmp_path / "apart", name="apart")
        client.deploy("inline:1")
        client.deploy("apart:1")
        assert (roles.answers("inline"), roles.answers("apart")) == (20.0, 6.0)

        roles.kill("control")
        roles.kill("gateway")
        roles.start("gateway")
        until(lambda: (roles.answers("inline"), roles.answers("apart")) == (20.0, 6.0))
        assert not roles.control_is_up()

        roles.start("control")
        until(roles.control_is_up)
        client.deploy("inline:2")
        assert (roles.answers("inline"), roles.answers("apart")) == (40.0, 6.0)
