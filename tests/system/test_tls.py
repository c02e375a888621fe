"""A whole server with TLS on, and strangers as its callers: commands, curl, openssl, Triton's clients."""

import json
import os
import signal
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from shipway.bootstrap.clock import clock
from shipway.client.synchronous import Client
from shipway.core.errors import CertificateUnusable, ServerUnreachable
from shipway.testing.certificates import Authority
from shipway.testing.live import live_server, onnx_bundle
from shipway.testing.servers import free_port
from shipway.tls.authority import Role
from shipway.tls.contexts import caller_context
from shipway.tls.files import TlsFiles

BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [2.0]}]}


def shipway(directory, *arguments, check=True, **variables):
    """One command, as a person types it in a directory, without any setting but those given.

    Servers have no access control here: what is asked is whether the connection is trusted.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("SHIPWAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "shipway.cli", *map(str, arguments)],
        cwd=directory,
        env=own | {"SHIPWAY_AUTH": "false"} | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory where somebody has typed `ca init`, `ca issue` and `up`, and deployed a model."""
    directory = tmp_path_factory.mktemp("tls")
    onnx_bundle(directory / "bundle", 2.0)
    shipway(directory, "ca", "init")
    shipway(directory, "ca", "issue", "server", "--role", "gateway")
    shipway(directory, "up", "-d", "--port", 0, "--control-port", 0)
    try:
        shipway(directory, "register", directory / "bundle", "--name", "double")
        shipway(directory, "deploy", "double:1", "--placement", "inline")
        yield directory
    finally:
        shipway(directory, "down")


@pytest.fixture
def server(home):
    return json.loads((home / ".shipway" / "run" / "up.json").read_text())


@pytest.fixture
def ca(home):
    return home / ".shipway" / "tls" / "ca.crt"


def test_commands_find_the_server_and_its_certificate_by_themselves(home, server):
    assert server["control_url"].startswith("https://")
    assert server["gateway_url"].startswith("https://")
    status = json.loads(shipway(home, "status", "--json").stdout)
    assert status["gateways"][0]["address"] == server["gateway_url"]
    (home / "x.json").write_text('{"x": [3.0]}')
    assert "6" in shipway(home, "predict", "double", "x.json").stdout


def test_the_python_client_finds_them_too(home, server, monkeypatch):
    monkeypatch.chdir(home)
    with Client() as client:
        assert client.predict("double", {"x": [4.0]}).outputs["y"].tolist() == [8.0]


def test_a_client_elsewhere_needs_the_ca_and_says_so(home, server, ca, tmp_path):
    url = server["control_url"]
    refused = shipway(tmp_path, "status", "--server", url, check=False)
    assert refused.returncode != 0
    assert "SHIPWAY_TLS_CA" in refused.stderr
    told = shipway(tmp_path, "status", "--server", url, SHIPWAY_TLS_CA=str(ca))
    assert "double" in told.stdout
    plain = shipway(tmp_path, "status", "--server", url.replace("https", "http"), check=False)
    assert plain.returncode != 0
    assert "https://" in plain.stderr


def test_curl_and_openssl_verify_the_server(server, ca):
    for url in (
        f"{server['gateway_url']}/v2/health/live",
        f"{server['control_url']}/api/v1/health",
    ):
        done = subprocess.run(["curl", "-sS", "--fail", "--cacert", ca, url], capture_output=True)
        assert done.returncode == 0, done.stderr
        assert subprocess.run(["curl", "-sS", url], capture_output=True).returncode == 60
    for place, alpn in ((server["grpc_address"], "h2"), (server["gateway_url"][8:], "http/1.1")):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", place, "-CAfile", ca, "-alpn", alpn, "-verify_return_error"],
            input=b"", capture_output=True, timeout=30,
        )  # fmt: skip
        said = done.stdout.decode()
        assert "Verify return code: 0 (ok)" in said, said
        assert f"ALPN protocol: {alpn}" in said
        assert "TLSv1.3" in said


def test_tritons_http_client_speaks_tls(server, ca):
    import gevent.ssl

    context = gevent.ssl.create_default_context(cafile=str(ca))
    with tritonclient.http.InferenceServerClient(
        server["gateway_url"][8:], ssl=True, ssl_context_factory=lambda: context
    ) as client:
        tensor = tritonclient.http.InferInput("x", [2], "FP64")
        tensor.set_data_from_numpy(np.array([1.0, 2.0]))
        assert client.infer("double", [tensor]).as_numpy("y").tolist() == [2.0, 4.0]


def test_tritons_grpc_client_speaks_tls_and_refuses_a_strangers_server(server, ca, tmp_path):
    tensor = tritonclient.grpc.InferInput("x", [2], "FP64")
    tensor.set_data_from_numpy(np.array([1.0, 2.0]))
    with tritonclient.grpc.InferenceServerClient(
        server["grpc_address"], ssl=True, root_certificates=str(ca)
    ) as client:
        assert client.infer("double", [tensor]).as_numpy("y").tolist() == [2.0, 4.0]
    other = Authority(tmp_path / "other")
    with (
        tritonclient.grpc.InferenceServerClient(
            server["grpc_address"], ssl=True, root_certificates=str(other.ca)
        ) as client,
        pytest.raises(InferenceServerException),
    ):
        client.infer("double", [tensor], client_timeout=5)


def test_an_evaluation_measures_latency_over_tls(home):
    (home / "held.csv").write_text("x,truth\n" + "".join(f"{n},{2 * n}\n" for n in range(40)))
    done = shipway(home, "evaluate", "double:1", "--data", "held.csv", "--label", "truth", "--load", 2)  # fmt: skip
    assert "ms" in done.stdout


@contextmanager
def load(url, trust):
    """Callers on kept and on new connections, until the block ends; not one request may fail."""
    done, answered = Event(), [0]

    def ask(post, **options):
        answer = post(f"{url}/v2/models/double/infer", json=BODY, **options)
        assert answer.status_code == 200, answer.text
        answered[0] += 1

    def call():
        with httpx.Client(verify=trust, timeout=20) as kept:
            while not done.is_set():
                ask(kept.post)
                ask(httpx.post, verify=trust, timeout=20)

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(call) for _ in range(2)]
        try:
            yield
        finally:
            done.set()
    assert [one.result() for one in calls] == [None, None]
    assert answered[0] > 100


def shown(place):
    """The certificate that a server shows."""
    host, _, port = place.rpartition("/")[2].rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


def test_a_renewed_certificate_is_shown_by_all_three_and_no_request_fails(home, server, ca, until):
    trust = caller_context(TlsFiles(ca=ca))
    places = [server["gateway_url"], server["control_url"], server["grpc_address"]]
    with load(server["gateway_url"], trust):
        shipway(home, "ca", "issue", "server", "--role", "gateway")
        renewed = (home / ".shipway" / "tls" / "server.crt").read_text()
        until(lambda: {shown(place) for place in places} == {renewed})
        shipway(home, "status")
    # A control that is started again shows nothing but the new one: the gateway must know it.
    control = json.loads((home / ".shipway" / "run" / "control.json").read_text())
    os.kill(control["pid"], signal.SIGKILL)
    with Client(state_dir=home / ".shipway") as client:

        def is_back():
            with suppress(ServerUnreachable):
                return any(gateway.address for gateway in client.status().gateways)
            return False

        until(is_back, within_s=60)
    onnx_bundle(home / "third", 3.0)
    shipway(home, "register", home / "third", "--name", "double")
    shipway(home, "deploy", "double:2", "--placement", "inline")
    with httpx.Client(verify=trust, timeout=30) as client:
        answer = client.post(f"{server['gateway_url']}/v2/models/double/infer", json=BODY)
        assert answer.json()["outputs"][0]["data"] == [6.0]


@pytest.mark.parametrize("fault", ["expired", "mismatch", "open"])
def test_up_with_a_certificate_that_cannot_be_used_says_which_and_starts_nothing(tmp_path, fault):
    ca = Authority(tmp_path / ".shipway" / "tls")
    ca.issue("server", at=clock() - timedelta(days=2 if fault == "expired" else 0))
    key = ca.pair("server").key
    if fault == "mismatch":
        ca.issue("other")
        key.write_bytes(ca.pair("other").key.read_bytes())
    if fault == "open":
        key.chmod(0o644)
    done = shipway(tmp_path, "up", "--port", 0, "--control-port", 0, check=False)
    assert done.returncode == 6
    assert done.stderr.startswith("Certificate unusable: The ")
    assert ("server.crt" if fault == "expired" else "server.key") in done.stderr
    assert "Next: " in done.stderr
    assert not list((tmp_path / ".shipway").glob("run/*.json"))


def test_a_server_with_a_certificate_of_somebody_elses_is_found_too(tmp_path):
    """One that names neither this machine nor a CA that anybody here trusts, on every address."""
    other = Authority(tmp_path / "other")
    other.issue("public", hosts=("models.example.com",))
    pair = other.pair("public")
    with live_server(
        tmp_path / "state", tls_cert=pair.cert, tls_key=pair.key, host="0.0.0.0"
    ) as server:
        onnx_bundle(tmp_path / "bundle", 2.0)
        server.register("double", tmp_path / "bundle")
        server.deploy("double", "double:1", placement="inline")
        with Client(state_dir=tmp_path / "state") as client:
            server.until(lambda: server.answers("double", 1.0) == 2.0)
            assert client.predict("double", {"x": [4.0]}).outputs["y"].tolist() == [8.0]


class Roles:
    """Control and a gateway that share nothing but a CA: as on two machines."""

    def __init__(self, directory):
        self.directory = directory
        self.ports = {"control": free_port(), "gateway": free_port()}
        self.running = []

    def start(self, role, *options):
        with (self.directory / f"{role}.log").open("ab") as log:
            command = [sys.executable, "-m", "shipway.cli", role, "--port", str(self.ports[role])]
            self.running.append(
                subprocess.Popen(
                    [*command, *options], cwd=self.directory / role, stdout=log, stderr=log
                )
            )

    def end(self):
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            process.wait(20)


@pytest.fixture
def roles(tmp_path):
    made = Roles(tmp_path)
    yield made
    made.end()


def test_roles_on_two_machines_know_each_other_by_the_ca(roles, tmp_path, until):  # noqa: PLR0915 - one story
    here = tmp_path / "here"
    here.mkdir()
    shipway(here, "ca", "init")
    for role in ("control", "gateway"):
        out = tmp_path / role / ".shipway" / "tls"
        shipway(
            here, "ca", "issue", f"{role}-1", "--role", role, "--host", "127.0.0.1", "--out", out
        )
        assert sorted(path.name for path in out.iterdir()) == ["ca.crt", "server.crt", "server.key"]
    shipway(here, "ca", "issue", "client", "--role", "client")
    control = f"https://127.0.0.1:{roles.ports['control']}"
    roles.start("control")
    roles.start("gateway", "--control-url", control, "--grpc-port", "0")

    key = tmp_path / "control" / ".shipway" / "keys" / "admin.key"
    until(key.exists, within_s=60)
    with Client(control, state_dir=here / ".shipway", key=key.read_text().strip()) as client:

        def heard():
            try:
                return client.status().gateways
            except ServerUnreachable:
                return ()

        until(lambda: bool(heard()))
        assert heard()[0].address == f"https://127.0.0.1:{roles.ports['gateway']}"
        onnx_bundle(tmp_path / "bundle", 2.0)
        client.register(tmp_path / "bundle", name="double")
        client.deploy("double:1", placement="inline")
        assert client.predict("double", {"x": [4.0]}).outputs["y"].tolist() == [8.0]

    stranger = Authority(tmp_path / "stranger")
    stranger.issue("client", role=Role.CLIENT, hosts=())
    tls = tmp_path / "elsewhere" / "tls"
    tls.mkdir(parents=True)
    for name in ("client.crt", "client.key"):
        (tls / name).write_bytes((stranger.directory / name).read_bytes())
    (tls / "client.key").chmod(0o600)
    (tls / "ca.crt").write_bytes((here / ".shipway" / "tls" / "ca.crt").read_bytes())
    with (
        Client(control, state_dir=tls.parent) as client,
        pytest.raises(ServerUnreachable) as caught,
    ):
        client.status()
    assert "tls/client.crt" in caught.value.next_step


def test_a_client_says_which_of_its_files_cannot_be_used(tmp_path):
    ca = Authority(tmp_path / "tls")
    ca.issue("client", role=Role.CLIENT, hosts=())
    ca.pair("client").key.unlink()
    with pytest.raises(CertificateUnusable, match=r"client\.key"):
        Client("https://127.0.0.1:1", state_dir=tmp_path)
