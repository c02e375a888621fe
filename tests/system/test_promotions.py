"""Production behind a policy: what nobody approved comes in by no front door, what was approved does."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from shipway import Client
from shipway.core.bundles import MANIFEST_NAME
from shipway.core.endpoints import EndpointSpec
from shipway.core.errors import PolicyUnmet
from shipway.testing.live import live_server, onnx_bundle

POLICY = """
name: production
approvals:
  required: 2
  by: [ben, eve, kim]
"""
UNMET = [
    "promoted to `production`: not promoted",
    "2 approvals by ben or eve or kim, not by its author ada: 0",
]
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
FROZEN = {"approvals": {"required": 2}, "freeze": [{"days": WEEK}]}
SPEC = "name: scale\nmodel: scale:2\nenvironment: production\n"


@pytest.fixture
def server(tmp_path):
    with live_server(tmp_path / "state", environment="production") as server:
        server.control.headers["X-Shipway-Actor"] = "ada"
        for number, factor in ((1, 2.0), (2, 3.0), (3, 4.0)):
            onnx_bundle(tmp_path / f"v{number}", factor)
            assert server.register("scale", tmp_path / f"v{number}") == number
        (tmp_path / "production.yaml").write_text(POLICY)
        (tmp_path / "scale.yaml").write_text(SPEC)
        yield server


@pytest.fixture
def shipway(server, tmp_path):
    """The command line of a person: what it printed, once it ended with that code."""

    def run(*words, by="ada", code=0):
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "shipway.cli", *words, "--server", server.running.control_url],
            cwd=tmp_path,
            env=environ | {"LOGNAME": by, "SHIPWAY_API_KEY": server.key},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


def approved(shipway, version):
    for person in ("ben", "eve"):
        shipway("approve", version, "--to", "production", "--reason", "looked at it", by=person)
    return shipway("promote", version, "--to", "production", by="ben")


def refused_everywhere(server, shipway, version):
    """By the command line, YAML, an alias, a promotion, the API and the SDK: each with every rule."""
    for words in (
        ["deploy", version, "--endpoint", "scale"],
        ["deploy", version, "--endpoint", "other"],
        ["apply", "-f", "scale.yaml"],
        ["alias", version, "production"],
        ["alias", version, "champion"],
    ):
        said = shipway(*words, code=5)
        for line in UNMET:
            assert f"  - {line}\n" in said, said
        assert "Next: `shipway promote" in said
    assert "Refused by policy" in shipway("promote", version, "--to", "production", code=5)
    answer = server.control.post("/endpoints/scale/deploy", json={"model": version})
    assert (answer.status_code, answer.json()["code"]) == (409, "policy_unmet")
    assert answer.json()["unmet"] == UNMET
    spec = {"model": version, "environment": "production"}
    assert server.control.put("/endpoints/scale", json=spec).json()["unmet"] == UNMET
    with (
        Client(server.running.control_url, key=server.key) as client,
        pytest.raises(PolicyUnmet) as caught,
    ):
        client.apply(EndpointSpec(name="scale", model=version, environment="production"))
    assert caught.value.details["unmet"] == UNMET


def register(server, model, bundle):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(bundle.rglob("*")):
            tar.add(path, path.relative_to(bundle).as_posix(), recursive=False)
    return server.control.post(f"/models/{model}/versions", content=archive.getvalue())


@pytest.fixture
def production(server, shipway):
    """Version 1 was approved, and serves behind an endpoint that follows what is promoted."""
    assert "create the policy" in shipway("environment", "apply", "-f", "production.yaml")
    assert "is scale:1" in approved(shipway, "scale:1")
    shipway("deploy", "scale@production", "--endpoint", "scale")
    server.until(lambda: server.answers("scale", 1.0) == 2.0)
    return server


def test_what_nobody_approved_reaches_production_by_no_front_door(production, shipway):
    shipway("alias", "scale:1", "champion")
    shipway("deploy", "scale@champion", "--endpoint", "beside")
    refused_everywhere(production, shipway, "scale:2")
    shown = shipway("promotions", "scale:2")
    assert "MISS  2 approvals by ben or eve or kim" in shown
    assert "`shipway approve scale:2 --to production`" in shown
    for person in ("ada", "mallory"):
        shipway("approve", "scale:2", "--to", "production", by=person)
        said = shipway("promotions", "scale:2")
        assert f"said  {person} approved it, which does not count" in said
    shipway("promote", "scale:2", "--to", "production", code=5)
    assert {production.answers(name, 1.0) for name in ("scale", "beside")} == {2.0}


def test_what_was_approved_is_rolled_out_and_other_bytes_cannot_ride_on_it(
    production, shipway, tmp_path
):
    shipway("alias", "scale:1", "champion")
    shipway("deploy", "scale@champion", "--endpoint", "beside")
    done = approved(shipway, "scale:2")
    assert "`scale@production` is scale:2 (was scale:1)." in done
    assert "Endpoint `scale` follows it." in done
    production.until(lambda: production.answers("scale", 1.0) == 3.0)

    (tmp_path / "scale.yaml").write_text(SPEC.replace(":2", ":3"))
    refused_everywhere(production, shipway, "scale:3")
    forged = tmp_path / "forged"
    shutil.copytree(tmp_path / "v3", forged)
    shutil.copy(tmp_path / "v2" / MANIFEST_NAME, forged)
    answer = register(production, "scale", forged)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_artifact")
    assert production.answers("scale", 1.0) == 3.0
    events = production.control.get("/audit", params={"subject": "scale"}).json()
    said = [event["actor"] for event in events if event["action"] == "review.approved"]
    assert sorted(said) == ["ben", "ben", "eve", "eve"]
    assert production.control.get("/audit/check").json()["holds"]


def test_rejection_keeps_a_rollout_from_going_on_by_hand_and_a_freeze_not_from_ending(
    production, shipway
):
    shipway("promote", "scale:2", "--to", "production", code=5)
    canary = {"stages": [{"strategy": "canary", "steps": [5], "hold_s": 3600}]}
    production.deploy("scale", "scale@production", rollout=canary)
    approved(shipway, "scale:2")
    production.until(lambda: production.endpoint("scale")["phase"] == "releasing")
    said = shipway("reject", "scale:2", "--to", "production", "--reason", "it leaks", by="kim")
    assert "promoted, and may not be deployed any more" in said
    assert "Next: shipway rollback scale" in said

    answer = production.control.post("/endpoints/scale/rollout/promote", json={})
    assert answer.json()["unmet"] == ["no rejection: kim rejected it (it leaks)"]
    assert production.control.put("/environments/production", json=FROZEN).is_success
    assert production.control.post("/endpoints/scale/rollout/abort", json={}).is_success
    production.until(lambda: production.endpoint("scale")["phase"] == "live")
    assert production.endpoint("scale")["active"] == "scale:1"


def test_rollback_is_let_through_whatever_was_said_meanwhile_and_says_so(production, shipway):
    approved(shipway, "scale:2")
    production.until(lambda: production.answers("scale", 1.0) == 3.0)
    shipway("reject", "scale:1", "--to", "production", by="eve")
    assert production.control.put("/environments/production", json=FROZEN).is_success
    said = shipway("rollback", "scale")
    assert "note: `production` would not admit scale:1 now" in said
    assert "eve rejected it" in said
    production.until(lambda: production.answers("scale", 1.0) == 2.0)
    events = production.control.get("/audit", params={"subject": "scale"}).json()
    (waived,) = [event for event in events if event["action"] == "admission.waived"]
    assert waived["details"]["version"] == "scale:1"
    policy = json.loads(shipway("environment", "get", "production", "--json"))
    assert policy["policy"]["freeze"][0]["days"] == WEEK
