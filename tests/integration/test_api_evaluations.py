"""The routes of evaluations: what is kept, what is refused, and its audit record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from shipway.api.app import create_app
from shipway.api.services import Services
from shipway.control.access import Access
from shipway.control.audit import AuditLog
from shipway.control.evaluations import Evaluations
from shipway.control.registry import Registry
from shipway.control.seals import Seals
from shipway.core.evaluations import Against, Difference, Findings, Measure, Slice, Task
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging
from shipway.testing.bundles import write_bundle

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
ACCURACY = Measure(name="accuracy", value=0.9, low=0.8, high=0.95, better="higher")
ROUTE = "/api/v1/models/churn/versions/{}/evaluations"


class Control:
    """The API over one registered model, and a clock that a test moves."""

    def __init__(self, state: Path, database: Database) -> None:
        self.now = NOW
        registry = Registry(database, ArtifactStore(str(state / "artifacts")))
        self.digests = []
        for number in (1, 2):
            bundle = state / f"bundle-{number}"
            write_bundle(bundle, files={"model.bin": b"x" * number})
            record, _ = registry.register("churn", bundle, actor="ada", now=NOW)
            self.digests.append(record.digest)
        seals = Seals(database, state)
        seals.sign(now=NOW)
        services = Services(
            registry=registry,
            audit=AuditLog(database),
            access=Access(database, environment="dev", is_on=False),
            seals=seals,
            evaluations=Evaluations(database),
            staging=Staging(state / "staging"),
            now=lambda: self.now,
        )
        self.app = create_app(services)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as http:
                return await http.request(method, path, **options)

        return asyncio.run(asked())

    def get(self, path: str, **options: Any) -> Any:
        return self.ask("GET", path, **options).json()

    def findings(self, **fields: Any) -> Findings:
        facts: dict[str, Any] = {
            "digest": self.digests[1],
            "task": Task.CLASSIFICATION,
            "label": "churned",
            "data": "test.parquet",
            "data_sha256": "0" * 64,
            "rows": 10,
            "resamples": 1000,
            "measures": (ACCURACY,),
        }
        return Findings(**(facts | fields))

    def post(self, findings: Findings, version: str = "2", **extra: Any) -> Any:
        body = msgspec.to_builtins(findings) | extra
        headers = {"X-Shipway-Actor": "ada"}
        return self.ask("POST", ROUTE.format(version), json=body, headers=headers)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    database = Database.open(sqlite_url(tmp_path))
    yield Control(tmp_path, database)
    database.close()


def test_an_evaluation_is_kept_with_its_version_and_on_record(control: Control) -> None:
    difference = Difference(
        name="accuracy",
        value=0.1,
        low=0.0,
        high=0.2,
        p_value=0.03,
        test="McNemar",
        verdict="better",
    )
    findings = control.findings(
        slices=(Slice(column="plan", value="free", rows=5, measures=(ACCURACY,)),),
        against=Against(version="churn:1", differences=(difference,)),
    )
    first = control.post(findings)
    control.now = NOW + timedelta(seconds=1)
    second = control.post(control.findings(), version="latest")
    assert (first.status_code, second.status_code) == (201, 201)
    kept = first.json()
    assert msgspec.json.decode(first.content, type=Findings) == findings
    assert (kept["model"], kept["number"], kept["by"]) == ("churn", 2, "ada")
    assert kept["at"] == "2026-05-06T07:08:09Z"
    assert control.get(ROUTE.format("2")) == [second.json(), kept]
    assert control.get(ROUTE.format("1")) == []
    events = control.get("/api/v1/audit", params={"subject": "churn:2"})
    evaluated = [event for event in events if event["action"] == "version.evaluate"]
    assert evaluated[-1]["details"] == {
        "id": kept["id"],
        "digest": control.digests[1],
        "data": "test.parquet",
        "data_sha256": "0" * 64,
        "rows": 10,
        "measures": {"accuracy": 0.9},
    }
    assert control.get("/api/v1/audit/check")["holds"] is True


def test_who_when_and_which_id_are_the_server_s_to_say(control: Control) -> None:
    said = {"id": "mine", "at": "1999-01-01T00:00:00Z", "by": "eve", "model": "fraud", "number": 9}
    kept = control.post(control.findings(), **said).json()
    assert kept["id"] != "mine"
    assert (kept["model"], kept["number"], kept["by"]) == ("churn", 2, "ada")
    assert kept["at"] == "2026-05-06T07:08:09Z"


def test_findings_of_other_bytes_are_refused(control: Control) -> None:
    answer = control.post(control.findings(), version="1")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert control.digests[1] in answer.json()["detail"]
    assert control.get(ROUTE.format("1")) == []


def test_a_thousand_slices_are_kept_and_one_more_is_refused(control: Control) -> None:
    measures = tuple(
        msgspec.structs.replace(ACCURACY, name=f"metric-{number}", value=1 / 3)
        for number in range(9)
    )
    one = Slice(column="plan", value="free", rows=5, measures=measures)
    assert control.post(control.findings(slices=(one,) * 1000)).status_code == 201
    refused = control.post(control.findings(slices=(one,) * 1001))
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "null"])
def test_numbers_that_are_not_finite_are_refused(control: Control, number: str) -> None:
    body = msgspec.json.encode(control.findings()).replace(
        b'"value":0.9', f'"value":{number}'.encode()
    )
    answer = control.ask("POST", ROUTE.format("2"), content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_evaluations_of_a_version_that_is_not_there_are_404(control: Control) -> None:
    assert control.get(ROUTE.format("9"))["code"] == "version_not_found"
    assert control.post(control.findings(), version="9").json()["code"] == "version_not_found"
