"""A real server whose model dies: it is noticed, told to a webhook, rolled back, and told again once it is over."""

import pytest
from typer.testing import CliRunner

from shipway.cli.main import app
from shipway.testing.live import live_server, onnx_bundle, python_bundle
from shipway.testing.webhooks import receiver
from shipway.wire.webhooks import SIGNATURE, is_signed

DIES = """
import os

class Model:
    def predict(self, inputs):
        os._exit(7)
"""
NOTICE_AT_ONCE = {"no-replicas": {"for_s": 0, "hold_s": 0}}


@pytest.fixture(scope="module")
def hook():
    with receiver() as made:
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("alerts")
    settings = {"outbound_networks": "127.0.0.0/8", "outbound_http": True}
    with live_server(directory / "state", **settings) as server:
        onnx_bundle(directory / "good", 2.0)
        python_bundle(directory / "bad", DIES)
        server.register("churn", directory / "good")
        server.register("churn", directory / "bad")
        yield server


def shipway(server, *words):
    done = CliRunner().invoke(app, [*words, "--dir", str(server.state_dir)])
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def secret(server, hook):
    words = ("add", "ops", hook.url, "--default", "--everywhere")
    return shipway(server, "alerts", "channels", *words).stdout.strip()


def signed(one, secret):
    at_s = int(one.headers[SIGNATURE.lower()].split(",")[0].removeprefix("t="))
    return is_signed(one.headers[SIGNATURE.lower()], secret, one.body, now_s=at_s)


def test_a_channel_is_tried_out_and_its_url_never_shown(server, hook, secret):
    shipway(server, "alerts", "channels", "test", "ops")
    (one,) = [heard for heard in hook.heard if heard.document["kind"] == "test"]
    assert one.document["kind"] == "test"
    assert signed(one, secret)
    listed = shipway(server, "alerts", "channels", "list", "--json").output
    assert "s3cr3t" not in listed
    assert secret not in listed
    assert "s3cr3t" not in (server.state_dir / "logs" / "control.log").read_text()
    database = b"".join(path.read_bytes() for path in server.state_dir.glob("shipway.db*"))
    assert b"/hook/s3cr3t" not in database


def test_a_model_that_dies_is_noticed_told_rolled_back_and_resolved(server, hook, secret):
    server.deploy("churn", "churn:1", placement="process")
    assert server.settled("churn")["phase"] == "live"
    plan = {
        "rules": NOTICE_AT_ONCE,
        "actions": [{"when": "no-replicas", "do": "rollback", "mode": "do"}],
    }
    server.deploy("churn", "churn:2", placement="process", alerts=plan)
    assert server.settled("churn")["active"] == "churn:2"

    def is_back():
        return server.answers("churn", 3.0) == 6.0

    server.until(is_back, timeout_s=90)
    assert server.endpoint("churn")["active"] == "churn:1"
    server.until(lambda: "clear" in hook.events("no-replicas"), timeout_s=60)
    assert hook.events("no-replicas") == ["sustain", "clear"]
    told = next(one for one in hook.taken.values() if one.document["endpoint"] == "churn")
    assert signed(told, secret)
    (item, *_) = told.document["items"]
    assert item["severity"] == "critical"
    assert item["runbook"] == "docs/runbooks/no-replicas.md"
    assert item["command"] == "shipway logs churn"
    assert item["version"] == "churn:2"
    event = next(
        e
        for e in server.control.get("/audit", params={"subject": "churn"}).json()
        if e["action"] == "endpoint.rollback"
    )
    assert event["actor"] == "shipway"
    assert item["alert"] in event["details"]["reason"]
    story = shipway(server, "alerts", "show", item["alert"]).output
    for said in ("docs/runbooks/no-replicas.md", "done.rollback", "resolved", "ops"):
        assert said in story
