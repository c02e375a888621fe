"""Callers prove who they are to a real server: with keys, and with tokens of an identity provider."""

import json
import os
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from shipway.bootstrap.clock import clock
from shipway.client.synchronous import Client
from shipway.core.access import Grant, Role
from shipway.core.errors import InvalidSpec, Unauthenticated
from shipway.settings import Settings
from shipway.store.api_keys import ADMIN, key_path
from shipway.supervisor.up import up
from shipway.testing.live import live_server, onnx_bundle


class Provider:
    """An identity provider: its configuration, its key set, and what it signs."""

    def __init__(self):
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(provider.pages[self.path]).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.pages = {
            "/.well-known/openid-configuration": {"jwks_uri": f"{self.issuer}/keys"},
        }
        self.key = ECKey.generate_key("P-256", {"kid": "first"})
        self.publish(self.key)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, *keys):
        self.pages["/keys"] = KeySet(list(keys)).as_dict(private=False)

    def token(self, name, *groups, key=None, lifetime_s=600):
        key = key or self.key
        claims = {
            "iss": self.issuer, "aud": "shipway", "sub": name, "groups": list(groups),
            "exp": int(clock().timestamp()) + lifetime_s,
        }  # fmt: skip
        return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key)


@pytest.fixture(scope="module")
def provider():
    made = Provider()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def server(provider, tmp_path_factory):
    directory = tmp_path_factory.mktemp("identity")
    with live_server(directory / "state", oidc_issuer=provider.issuer) as server:
        onnx_bundle(directory / "m", 2.0)
        server.register("cards.m", directory / "m")
        server.deploy("cards.m", "cards.m:1")
        server.settled("cards.m")
        yield server


def client_of(server, key):
    return Client(server.running.control_url, gateway=server.running.gateway_url, key=key)


def by_id(client):
    return {key.id: key for key in client.keys()}  # noqa: SIM118 - the API's keys


def asked(server, key):
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [3.0]}]}
    url = f"{server.running.gateway_url}/v2/models/cards.m/infer"
    return httpx.post(url, json=body, headers={"authorization": f"Bearer {key}"}).status_code


def test_a_token_may_what_was_granted_to_its_user_and_groups(server, provider):
    token = provider.token("ada", "scoring")
    with client_of(server, token) as ada:
        assert (ada.whoami().name, ada.whoami().grants) == ("ada", ())
        assert ada.models() == ()
    assert asked(server, token) == 404  # she may not even know of it
    grants = {
        "user:ada": Grant(role=Role.VIEWER, project="cards"),
        "group:scoring": Grant(role=Role.INVOKER, endpoint="cards.m"),
    }
    for subject, grant in grants.items():
        with client_of(server, server.key) as admin:
            admin.bind(subject, [grant])
    with client_of(server, token) as ada:
        assert {grant.role for grant in ada.whoami().grants} == {Role.VIEWER, Role.INVOKER}
        assert [model.name for model in ada.models()] == ["cards.m"]
    server.until(lambda: asked(server, token) == 200)
    assert asked(server, provider.token("eve")) == 404


def test_an_expired_or_foreign_token_opens_nothing(server, provider):
    stranger = ECKey.generate_key("P-256", {"kid": "first"})
    for token in (
        provider.token("ada", lifetime_s=-60),
        provider.token("ada", key=stranger),
        provider.token("ada", key=ECKey.generate_key("P-256", {"kid": "other"})),
    ):
        assert asked(server, token) == 401
        with client_of(server, token) as nobody, pytest.raises(Unauthenticated):
            nobody.whoami()


def test_a_key_is_made_used_rotated_and_revoked(server):
    with client_of(server, server.key) as admin:
        made = admin.create_key("app", [Grant(role=Role.INVOKER, endpoint="cards.m")])
        server.until(lambda: asked(server, made.key) == 200)
        successor = admin.rotate_key(made.id, overlap_s=3600)
        server.until(lambda: asked(server, successor.key) == 200)
        assert asked(server, made.key) == 200  # for the overlap
        admin.revoke_key(made.id, reason="lost")
        server.until(lambda: asked(server, made.key) == 401)
        assert asked(server, successor.key) == 200
        keys = by_id(admin)
        assert keys[made.id].replaced_by == successor.id
        server.until(lambda: by_id(admin)[successor.id].last_used_at)
    events = server.control.get("/audit", params={"limit": 1000}).json()
    assert {"key.create", "key.rotate", "key.revoke"} <= {event["action"] for event in events}
    kept = b"".join(path.read_bytes() for path in server.state_dir.glob("shipway.db*"))
    snapshot = b"".join(path.read_bytes() for path in server.state_dir.glob("**/*.json"))
    for secret in (made.key, successor.key, server.key):
        assert secret.split("_", 2)[2].encode() not in kept + snapshot


def test_the_local_key_is_for_its_owner_and_its_own_server_alone(server):
    path = key_path(server.state_dir, ADMIN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with Client(state_dir=server.state_dir) as found:
        assert found.whoami().name == "admin"
    with Client(server.running.control_url, state_dir=server.state_dir) as found:
        assert found.whoami().name == "admin"
    elsewhere = server.running.control_url.replace("127.0.0.1", "localhost")
    with Client(elsewhere, state_dir=server.state_dir) as other, pytest.raises(Unauthenticated):
        other.whoami()


def test_only_the_local_key_speaks_for_others(server):
    with client_of(server, server.key) as admin:
        made = admin.create_key("ci", [Grant(role=Role.DEVELOPER, project="cards")])
    for key, actor in ((server.key, "grace"), (made.key, "ci")):
        headers = {"authorization": f"Bearer {key}", "x-shipway-actor": "grace"}
        url = f"{server.running.control_url}/api/v1/models/cards.m/aliases/{actor}"
        httpx.put(url, json={"version": 1}, headers=headers).raise_for_status()
        events = server.control.get("/audit", params={"subject": f"cards.m@{actor}"}).json()
        assert events[0]["actor"] == actor


def test_gateways_let_in_and_keep_out_without_control(server, until):
    with client_of(server, server.key) as admin:
        made = admin.create_key("offline", [Grant(role=Role.INVOKER, project="cards")])
    server.until(lambda: asked(server, made.key) == 200)
    control = json.loads((server.state_dir / "run" / "control.json").read_text())["pid"]
    os.kill(control, 19)  # SIGSTOP
    try:
        assert asked(server, made.key) == 200
        assert asked(server, made.key[:-1] + "x") == 401
    finally:
        os.kill(control, 18)  # SIGCONT


def test_a_server_without_access_control_is_for_this_machine_alone(tmp_path):
    with pytest.raises(InvalidSpec, match="everybody who reaches"):
        up(Settings(state_dir=tmp_path, host="0.0.0.0", auth=False))
    command = [sys.executable, "-m", "shipway.cli", "up", "--no-auth", "--host", "0.0.0.0"]
    done = subprocess.run(
        [*command, "--dir", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 4
    assert "--anyone-on-the-network" in done.stderr
    with live_server(tmp_path / "open", auth=False) as server:
        assert httpx.get(f"{server.running.control_url}/api/v1/models").json() == []
        assert httpx.get(f"{server.running.gateway_url}/v2/repository/index").status_code == 404
        assert httpx.get(f"{server.running.gateway_url}/v1/models").status_code == 200
        assert not key_path(server.state_dir, ADMIN).exists()


def test_wrong_keys_from_this_machine_lock_out_neither_its_gateways_nor_its_owner(server):
    url = f"{server.running.control_url}/api/v1/models"
    wrong = [httpx.get(url, headers={"x-api-key": f"guess {n}"}).status_code for n in range(25)]
    # Earlier tests of this server may have made some of the twenty.
    assert wrong == sorted(wrong)
    assert set(wrong) == {401, 429}
    assert server.control.get("/models").status_code == 200
    # A gateway that were shut out would be forgotten after five seconds.
    heard = server.control.get("/status").json()["gateways"][0]["seen_at"]
    server.until(lambda: server.control.get("/status").json()["gateways"][0]["seen_at"] > heard)
