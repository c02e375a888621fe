"""A real server whose model fails: the error rate is noticed within seconds, told, and the rollout is given up.

It needs the history of measures.
"""

import threading

import pytest

from shipway.testing.live import live_server, onnx_bundle, python_bundle
from shipway.testing.webhooks import receiver

pytest.importorskip("shipway.core.measures")

FAILS = """
class Model:
    def predict(self, inputs):
        raise ValueError("on purpose")
"""
PLAN = {
    "rules": {"error-rate": {"value": 0.2, "over_s": 20, "for_s": 0, "hold_s": 0}},
    "actions": [{"when": "error-rate", "do": "rollback", "mode": "do"}],
}


@pytest.fixture
def server(tmp_path):
    settings = {"outbound_networks": "127.0.0.0/8", "outbound_http": True}
    with live_server(tmp_path / "state", **settings) as server:
        onnx_bundle(tmp_path / "good", 2.0)
        python_bundle(tmp_path / "bad", FAILS)
        server.register("churn", tmp_path / "good")
        server.register("churn", tmp_path / "bad")
        yield server


def test_a_model_that_fails_raises_the_error_rate_is_rolled_back_and_resolves(server):
    with receiver() as hook:
        channel = {"name": "ops", "url": hook.url, "is_default": True}
        assert server.control.post("/channels", json=channel).status_code == 201
        server.deploy("churn", "churn:1", placement="process")
        assert server.settled("churn")["phase"] == "live"
        server.deploy("churn", "churn:2", placement="process", alerts=PLAN)
        assert server.settled("churn")["active"] == "churn:2"
        is_over = threading.Event()

        def ask():
            while not is_over.is_set():
                server.predict("churn", 3.0)
                is_over.wait(0.1)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            server.until(lambda: "sustain" in hook.events("error-rate"), timeout_s=60)
            server.until(lambda: server.endpoint("churn")["active"] == "churn:1", timeout_s=30)
            server.until(lambda: "clear" in hook.events("error-rate"), timeout_s=90)
        finally:
            is_over.set()
            asking.join()
    assert hook.events("error-rate") == ["sustain", "clear"]
