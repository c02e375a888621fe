"""Canaries in every place where a secret may be: after good and bad days none is anywhere but there."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from itertools import count
from pathlib import Path

import psycopg
import pytest
from valkey import Valkey

from shipway.core.errors import ShipwayError
from shipway.settings import read_settings
from shipway.supervisor.up import start
from shipway.testing.live import LiveServer, down, python_bundle
from shipway.testing.servers import free_port, postgresql, s3, valkey

MODEL = """
import hashlib, os
TOKEN = os.environ["TOKEN"]
class Model:
    def predict(self, inputs):
        x = inputs["x"]
        if x[0] == 13:
            raise ValueError("it does not like thirteen")
        if x[0] == 14:
            os._exit(7)
        return {"y": x * 0 + int(hashlib.sha256(TOKEN.encode()).hexdigest()[:6], 16)}
"""
CANARIES = {
    name: f"canary{number}of{name}x{os.getpid()}"
    for number, name in enumerate(["database", "cache", "keyid", "key", "variable", "mounted"])
}


def fingerprint(text):
    return float(int(sha256(text.encode()).hexdigest()[:6], 16))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A server on PostgreSQL, S3 and Valkey, each of them with a password."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    with postgresql() as new_database, s3() as store, valkey() as cache:
        url = new_database().replace("postgres@", f"postgres:{CANARIES['database']}@")
        (mounted / "url").write_text(f"{url}\n")
        cache.ask("CONFIG", "SET", "requirepass", CANARIES["cache"])
        (mounted / "cache").write_text(cache.url.replace("//", f"//:{CANARIES['cache']}@"))
        (mounted / "model").write_text(CANARIES["mounted"])
        (mounted / "key").write_text(store.environment["AWS_SECRET_ACCESS_KEY"])
        environment = {
            **{k: v for k, v in store.environment.items() if k != "AWS_SECRET_ACCESS_KEY"},
            "AWS_SECRET_ACCESS_KEY_FILE": str(mounted / "key"),
            "AWS_SESSION_TOKEN_UNUSED": CANARIES["keyid"],
            "GOOGLE_UNUSED": CANARIES["key"],
            "SHIPWAY_ARTIFACTS_URL": store.url,
            "SHIPWAY_DATABASE_URL_FILE": str(mounted / "url"),
            "SHIPWAY_CACHE_URL_FILE": str(mounted / "cache"),
            "SHIPWAY_ALLOWED_SECRETS": f"env:MODEL_*, file:{mounted}/*",
            "MODEL_TOKEN": CANARIES["variable"],
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        state = tmp_path / "state"
        options = read_settings(state_dir=state, gateway_port=0, grpc_port=0, control_port=0)
        server = LiveServer(start(options))
        try:
            yield server, mounted, cache
        finally:
            server.close()
            down(state)


def argvs():
    """The command lines of all processes of this machine that can be read."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(entry.read_bytes())
    return b"\n".join(found)


def rows_of(url):
    """Every row of every table."""
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in names.fetchall()]
        rows = [connection.execute(f"SELECT t::text FROM {table} t").fetchall() for table in tables]
    return repr(rows).encode()


def answers_of(server):
    """What control says of everything that could hold a secret."""
    paths = ["/endpoints", "/endpoints/e", "/endpoints/e/logs", "/audit", "/models", "/status",
             "/gateways", "/schemas/endpoint"]  # fmt: skip
    pages = [server.control.get(path).content for path in paths]
    return b"\n".join([*pages, server.gateway.get("/metrics").content])


def files_of(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refuses_what_is_no_reference_for_models(deploy, mounted):
    """A value in place of a reference, and the server's own secrets."""
    assert deploy(TOKEN=CANARIES["variable"])["code"] == "invalid_spec"
    assert deploy(TOKEN={"env": CANARIES["variable"]})["code"] == "invalid_spec"
    for own in ("AWS_ACCESS_KEY_ID", "SHIPWAY_DATABASE_URL_FILE", "HOME"):
        assert "may not be" in deploy(TOKEN={"env": own})["detail"]
    for own in (mounted / "url", mounted / "cache", mounted / "key", Path("/proc/self/environ")):
        assert "may not be" in deploy(TOKEN={"file": str(own)})["detail"]


def test_no_secret_is_anywhere_but_where_it_was_put(world, tmp_path):
    server, mounted, cache = world
    said = []
    python_bundle(tmp_path / "bundle", MODEL)
    server.register("m", tmp_path / "bundle")
    unknown = server.deploy("e", "m:1", capture={"redact": ["xx"]})
    assert "Did you mean `x`" in unknown["detail"]

    def deploy(**secrets):
        answer = server.deploy("e", "m:1", cache={"ttl_s": 60}, secrets=secrets)
        said.append(str(answer))
        return answer

    refuses_what_is_no_reference_for_models(deploy, mounted)
    deploy(TOKEN={"env": "MODEL_ABSENT"})
    assert "`env:MODEL_ABSENT` is not set" in server.settled("e")["message"]

    deploy(TOKEN={"env": "MODEL_TOKEN"})
    assert server.settled("e")["phase"] == "live"
    assert server.answers("e", 1) == fingerprint(CANARIES["variable"])
    # Another reference of the same version: new replicas replace the old ones.
    deploy(TOKEN={"file": str(mounted / "model")})
    fresh = count(100)  # answers to equal inputs are kept
    server.until(lambda: server.answers("e", next(fresh)) == fingerprint(CANARIES["mounted"]))
    server.until(lambda: cache_holds_some(cache))

    assert server.predict("e", 13).status_code == 500
    server.predict("e", 14)  # its process ends with the request inside
    server.until(lambda: server.answers("e", next(fresh)) == fingerprint(CANARIES["mounted"]))
    cache.end()
    log = server.state_dir / "logs" / "gateway.log"
    server.until(lambda: server.answers("e", next(fresh)) and "not answer" in log.read_text())

    everything = {
        **files_of(server.state_dir),
        Path("answers"): answers_of(server),
        Path("argv"): argvs(),
        Path("database"): rows_of((mounted / "url").read_text().strip()),
        Path("said"): "\n".join(said).encode(),
    }
    assert b"MODEL_TOKEN" in everything[Path("answers")]
    assert b"MODEL_TOKEN" in everything[Path("database")]
    found = {
        str(path): name
        for path, content in everything.items()
        for name, canary in CANARIES.items()
        if canary.encode() in content
    }
    assert found == {}


def cache_holds_some(cache):
    url = cache.url.replace("//", f"//:{CANARIES['cache']}@")
    with Valkey.from_url(url) as connection:
        return connection.dbsize() > 0


@pytest.mark.parametrize(
    "variables",
    [
        {"SHIPWAY_DATABASE_URL": "postgresql://u:{}@127.0.0.1:{port}/x"},
        {"SHIPWAY_DATABASE_URL": "postgresql://u:{}@127.0.0.1:{port}x/x"},
        {"SHIPWAY_DATABASE_URL": "postgresql://u:12/{}@127.0.0.1/x"},
        {"SHIPWAY_DATABASE_URL": "{}"},
        {"SHIPWAY_ARTIFACTS_URL": "s3://u:{}@/x"},
        {"SHIPWAY_ARTIFACTS_URL": "walrus://u:{}@x/y?sig={}"},
        {"SHIPWAY_CACHE_URL": "walkey://u:{}@x/y"},
    ],
    ids=lambda one: next(iter(one.values()))[:24],
)
def test_a_server_that_cannot_start_says_why_without_the_password(
    variables, tmp_path, monkeypatch, capfd
):
    canary = CANARIES["database"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("{port}", str(free_port())).replace("{}", canary))
    with pytest.raises(ShipwayError) as caught:
        start(read_settings(state_dir=tmp_path / "s", gateway_port=0, grpc_port=0, control_port=0))
    assert canary not in f"{caught.value} {caught.value.details}"
    assert caught.value.next_step
    kept = files_of(tmp_path)
    assert not [path for path, content in kept.items() if canary.encode() in content]
    assert canary not in "".join(capfd.readouterr())
