"""Two servers, one for each environment, over one database: judged in one, promoted to the other."""

from __future__ import annotations

import pytest

from shipway import Client
from shipway.core.errors import PolicyUnmet
from shipway.core.policy import Checks, EnvironmentPolicy, EvaluationCheck, LatencyCheck
from shipway.store.sql.database import sqlite_url
from shipway.testing.live import live_server, onnx_bundle

TWICE = "x,y\n" + "".join(f"{x},{2 * x}\n" for x in range(1, 40))
POLICY = EnvironmentPolicy(
    name="production",
    checks=Checks(
        evaluations=(EvaluationCheck(metric="rmse", at_most=0.5, data="twice.csv"),),
        latency=LatencyCheck(p99_ms=5000),
        not_worse_than_live=True,
    ),
)


@pytest.fixture
def servers(tmp_path):
    """That of `dev`, and that of `production`; version 1 is good, 2 is bad, 3 is better."""
    (tmp_path / "twice.csv").write_text(TWICE)
    shared = {
        "database_url": sqlite_url(tmp_path / "shared"),
        "artifacts_url": str(tmp_path / "shared" / "artifacts"),
    }
    (tmp_path / "shared").mkdir()
    with live_server(tmp_path / "dev", environment="dev", **shared) as dev:
        for number, factor in ((1, 2.01), (2, 3.0), (3, 2.0)):
            onnx_bundle(tmp_path / f"v{number}", factor)
            assert dev.register("scale", tmp_path / f"v{number}") == number
        with live_server(tmp_path / "production", environment="production", **shared) as other:
            yield dev, other


def test_version_is_judged_in_one_environment_and_promoted_to_another(servers, tmp_path):
    dev, production = servers
    data = tmp_path / "twice.csv"
    urls = {"server": dev.running.control_url, "gateway": dev.running.gateway_url}
    with Client(**urls, key=dev.key) as client:
        client.apply_policy(POLICY)
        client.evaluate("scale:1", data, label="y", load=2)
        client.promote("scale:1", "production")
        assert production.deploy("scale", "scale@production")["endpoint"]["environment"]
        production.until(lambda: production.answers("scale", 1.0) == 2.01)

        client.evaluate("scale:2", data, label="y", load=2)
        with pytest.raises(PolicyUnmet) as caught:
            client.promote("scale:2", "production")
        rmse, worse = caught.value.details["unmet"]
        assert rmse.startswith("`rmse` at most 0.5 on `twice.csv`: 2")
        assert worse == "no metric worse than that of scale:1, which is live: not compared"
        assert "`shipway evaluate scale:2 --data FILE --label COLUMN --against scale:1`" in str(
            caught.value
        )
        client.evaluate("scale:2", data, label="y", load=2, against="scale:1")
        with pytest.raises(PolicyUnmet, match="worse in `rmse`"):
            client.promote("scale:2", "production")

        client.evaluate("scale:3", data, label="y", load=2, against="scale:1")
        with (
            Client(production.running.control_url, key=production.key) as inside,
            pytest.raises(PolicyUnmet) as asked,
        ):
            inside.evaluate("scale:3", data, label="y")
        assert "a server of another environment" in asked.value.next_step
        promoted = client.promote("scale:3", "production")
        assert promoted.followers == ("scale",)
    production.until(lambda: production.endpoint("scale")["active"] == "scale:3")
