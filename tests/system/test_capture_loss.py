"""A gateway whose disk takes nothing more: every request is answered, and what is lost is counted and told."""

import json
import resource

import pytest

from shipway.testing.live import live_server, onnx_bundle

ROWS = 100_000
"""Of one request: some tens of them are more than a gateway keeps in memory."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("loss")
    with live_server(directory / "state") as server:
        onnx_bundle(directory / "bundle", 2.0)
        server.register("churn", directory / "bundle")
        server.deploy("churn", "churn:1", capture={})
        assert server.settled("churn")["phase"] == "live"
        yield server


def rows(server):
    return server.control.get("/endpoints/churn/predictions/stats").json()["rows"]


def losses(server):
    found = server.control.get("/alerts").json()
    return [one for one in found if (one["endpoint"], one["rule"]) == ("churn", "capture-loss")]


def lost(server):
    page = server.gateway.get("/metrics").text
    series = [
        line for line in page.splitlines() if line.startswith("shipway_predictions_lost_total")
    ]
    return sum(float(line.rpartition(" ")[2]) for line in series)


def test_with_a_full_disk_all_is_answered_the_loss_is_an_alert_and_nothing_written_is_damaged(
    server,
):
    assert server.predict("churn", 1.0, 2.0, 3.0).is_success
    server.until(lambda: rows(server) == 3)
    (record,) = (server.state_dir / "run").glob("gateway-*.json")
    pid = json.loads(record.read_text())["pid"]
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (10, limits[1]))
    statuses = {server.predict("churn", *[1.5] * ROWS).status_code for _ in range(50)}
    assert statuses == {200}
    alert = server.until(lambda: losses(server), timeout_s=90)[0]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    assert alert["numbers"]["capture_lost"] >= 1
    assert alert["runbook"] == "docs/runbooks/capture-loss.md"
    # What waited in memory is written once there is room, and what comes after it.
    server.until(lambda: rows(server) > 3 and (rows(server) - 3) % ROWS == 0, timeout_s=90)
    assert server.predict("churn", 4.0).is_success
    server.until(lambda: rows(server) % ROWS == 4, timeout_s=90)
    server.until(lambda: rows(server) // ROWS + lost(server) == 50, timeout_s=90)
