"""The prediction log of a running server, from the command line and the SDK."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from shipway import AsyncClient, Client
from shipway.core.captures import Feedback
from shipway.core.errors import InvalidRequest, NotFound
from shipway.testing.live import live_server

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from spooling import micros, prediction, segment, shape, texts

NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - the server has no other clock


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with live_server(tmp_path_factory.mktemp("log") / "state") as server:
        key = server.state_dir / "keys" / "gateway.key"
        headers = {"authorization": f"Bearer {key.read_text().strip()}"}
        said = [
            Feedback(environment="dev", endpoint="churn", at_us=micros(NOW), request_id="r-3",
                     label="left", outcomes={"revenue": -2.5}),
        ]  # fmt: skip
        data = segment(
            [
                prediction(
                    f"r-{i}", at=NOW - timedelta(minutes=i), key="customer \x1b[31m",
                    inputs={"age": np.array([40.0 + i]), "plan": texts("basic")},
                )
                for i in range(5)
            ] + [prediction("gone", of=shape("deleted"), at=NOW)],
            said,
        )  # fmt: skip
        url = f"{server.running.control_url}/internal/v1/segments"
        assert httpx.post(url, content=data, headers=headers).status_code == 204
        yield server


def run(server, *words, code=0):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "shipway.cli", *words, "--dir", str(server.state_dir)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_rows_are_listed(server):
    table = run(server, "predictions", "query", "churn", "--where", "age >= 43")
    assert "r-3" in table
    assert "r-4" in table
    assert "r-2" not in table
    assert "\x1b" not in table
    cut = run(server, "predictions", "query", "churn", "--limit", "2", "--column", "_request_id")
    assert cut.split() == ["_REQUEST_ID", "r-0", "r-1", *cut.split()[3:]]
    assert "--limit" in cut
    rows = json.loads(run(server, "predictions", "query", "churn", "--json"))["rows"]
    assert [row["_request_id"] for row in rows] == [f"r-{i}" for i in range(5)]
    csv = run(server, "predictions", "query", "churn", "--csv", "--column", "age", "--limit", "1")
    assert csv == "age\n40.0\n"
    assert "no prediction fits" in run(
        server, "predictions", "query", "churn", "--until", "2020-01-01"
    ).lower()  # fmt: skip
    refused = run(server, "predictions", "query", "churn", "--where", "agee > 1", code=4)
    assert "agee" in refused


def test_a_request_is_explained_wherever_it_is(server):
    told = run(server, "explain", "r-3")
    for part in ("endpoint churn", "churn:1 (primary)", "age", "43", "label left", "revenue -2.5"):
        assert part in told
    assert "endpoint deleted" in run(server, "explain", "gone")
    assert "no feedback" in run(server, "explain", "gone", "--endpoint", "deleted")
    assert "`nowhere`" in run(server, "explain", "nowhere", code=3)


def test_how_much_is_stored_is_told(server):
    told = run(server, "predictions", "stats")
    assert "churn:1" in told
    assert "1 messages of feedback" in told
    (one,) = json.loads(run(server, "predictions", "stats", "deleted", "--json"))
    assert (one["rows"], one["versions"][0]["version"]) == (1, 1)


def test_the_sdk_does_the_same_sync_and_async(server, tmp_path):
    with Client(state_dir=server.state_dir) as client:
        found = client.predictions("churn", where="age < 42", columns=["_request_id", "age"])
        assert found.rows == (
            {"_request_id": "r-0", "age": 40.0},
            {"_request_id": "r-1", "age": 41.0},
        )
        (tmp_path / "rows.parquet").write_bytes(client.export_predictions("churn", since=NOW))
        assert pq.read_table(tmp_path / "rows.parquet")["age"].to_pylist() == [40.0]
        assert client.explain("r-3").feedback[0].label == "left"
        assert {one.endpoint for one in client.prediction_stats()} == {"churn", "deleted"}
        with pytest.raises(InvalidRequest):
            client.predictions("churn", where="(SELECT 1) = 1")
        with pytest.raises(NotFound):
            client.explain("nowhere")

    async def asked():
        async with AsyncClient(state_dir=server.state_dir) as client:
            (stats,) = await client.prediction_stats("churn")
            return (await client.predictions("churn", limit=1)).is_cut, stats.rows

    assert asyncio.run(asked()) == (True, 5)
