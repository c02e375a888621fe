"""Policies, promotions and reviews over HTTP: what is read, what is answered, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from shipway.api.app import create_app
from shipway.api.services import Services
from shipway.control.access import Access
from shipway.control.audit import AuditLog
from shipway.control.environments import Environments
from shipway.control.promotions import Promotions
from shipway.control.registry import Registry
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging
from shipway.testing.bundles import write_bundle

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
VERSION = "/models/churn/versions/1"
POLICY = {"checks": {"parity": True}, "approvals": {"required": 1}}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    database = Database.open(sqlite_url(tmp_path / "state"))
    registry = Registry(database, ArtifactStore(str(tmp_path / "artifacts")))
    write_bundle(tmp_path / "bundle")
    registry.register("churn", tmp_path / "bundle", actor="ada", now=NOW)
    services = Services(
        registry=registry,
        audit=AuditLog(database),
        access=Access(database, environment="dev", is_on=False),
        staging=Staging(tmp_path / "staging"),
        now=lambda: NOW,
        environments=Environments(database),
        promotions=Promotions(database),
    )
    transport = httpx.ASGITransport(create_app(services))
    url = "http://control/api/v1"
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        yield client
    database.close()


async def test_policy_is_put_shown_listed_and_deleted(http: httpx.AsyncClient) -> None:
    shown = (
        await http.put("/environments/production", json=POLICY, params={"dry_run": True})
    ).json()
    assert shown["changes"] == ["create the policy of `production`"]
    assert (await http.get("/environments/production")).status_code == 404
    assert (await http.put("/environments/production", json=POLICY)).status_code == 200
    assert (await http.get("/environments/production")).json()["generation"] == 1
    assert [one["policy"]["name"] for one in (await http.get("/environments")).json()] == [
        "production"
    ]
    assert (await http.delete("/environments/production")).json()["declared"] is None
    assert (await http.get("/environments")).json() == []


async def test_refusal_has_every_unmet_rule_and_the_next_commands(http: httpx.AsyncClient) -> None:
    await http.put("/environments/production", json=POLICY)
    answer = await http.post(f"{VERSION}/promotions", json={"environment": "production"})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "policy_unmet"
    assert problem["unmet"] == [
        "parity of the ONNX form: not measured",
        "1 approval, not by its author ada: 0",
    ]
    assert "`shipway approve churn:1 --to production`" in problem["next_step"]
    assert problem["next_step"].endswith("then `shipway promote churn:1 --to production`.")


async def test_review_is_of_the_person_in_the_header(http: httpx.AsyncClient) -> None:
    await http.put("/environments/production", json=POLICY)
    said = {"environment": "production", "decision": "approved", "reason": "\u0000 ä"}
    assert (await http.post(f"{VERSION}/reviews", json=said)).json()["code"] == "invalid_request"
    answer = await http.post(f"{VERSION}/reviews", json=said, headers={"X-Shipway-Actor": "ben"})
    (review,) = answer.json()["reviews"]
    assert (review["reviewer"], review["counts"]) == ("ben", True)
    (standing,) = (await http.get(f"{VERSION}/promotions")).json()
    assert [rule["met"] for rule in standing["rules"]] == [False, True, True]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("promotions", {}, 400),
        ("promotions", {"environment": "production", "reasn": ""}, 400),
        ("promotions", {"environment": "Pro duction"}, 422),
        ("promotions", {"environment": "latest"}, 422),
        ("reviews", {"environment": "production"}, 400),
        ("reviews", {"environment": "production", "decision": "maybe"}, 400),
        ("reviews", {"environment": "nowhere", "decision": "approved"}, 404),
        ("reviews", {"environment": "production", "decision": "approved", "reason": 3}, 400),
        (
            "reviews",
            {"environment": "production", "decision": "approved", "reason": "x" * 4001},
            400,
        ),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    http: httpx.AsyncClient, path: str, body: dict[str, object], status: int
) -> None:
    await http.put("/environments/production", json=POLICY)
    answer = await http.post(f"{VERSION}/{path}", json=body, headers={"X-Shipway-Actor": "ben"})
    assert answer.status_code == status, answer.text
    assert (
        await http.post("/models/churn/versions/9/promotions", json={"environment": "x"})
    ).json()["code"] == "version_not_found"


async def test_policy_that_is_wrong_is_refused_with_the_nearest_key(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.put("/environments/production", json={"aprovals": {}})
    assert answer.status_code == 422
    assert "Did you mean `approvals`?" in answer.json()["detail"]
    assert (await http.get("/schemas/environment")).json()["$defs"]["EnvironmentPolicy"]
