"""The audit record over HTTP: filters, pages, refusals, and from where a change came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from shipway.api.app import create_app
from shipway.api.services import Services
from shipway.control.access import Access
from shipway.control.audit import AuditLog
from shipway.control.environments import Environments
from shipway.control.pruning import Pruning
from shipway.control.registry import Registry
from shipway.control.seals import Seals
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.audit import ORIGIN
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    database = Database.open(sqlite_url(tmp_path / "state"))
    seals = Seals(database, tmp_path / "state")
    seals.sign(now=NOW)
    services = Services(
        registry=Registry(database, ArtifactStore(str(tmp_path / "artifacts"))),
        audit=AuditLog(database),
        access=Access(database, environment="dev", is_on=False),
        seals=seals,
        pruning=Pruning(seals),
        staging=Staging(tmp_path / "staging"),
        now=lambda: NOW,
        environments=Environments(database),
    )
    transport = httpx.ASGITransport(guarded(create_app(services)))
    url = "http://control/api/v1"
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        for name in ("dev", "staging", "production"):
            await client.put(f"/environments/{name}", json={}, headers={"x-shipway-actor": name})
        seals.sign(now=NOW)
        yield client
    database.close()


def guarded(app: Any) -> Any:
    """The app behind a guard that knows who called, as control has one."""

    async def guard(
        scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]
    ) -> None:
        ORIGIN.set(scope["client"][0])
        await app(scope, receive, send)

    return guard


async def listed(http: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = await http.get("/audit", params=params)
    assert answer.status_code == 200, answer.text
    return [event["subject"] for event in answer.json()]


async def test_events_have_the_address_that_the_guard_saw(http: httpx.AsyncClient) -> None:
    events = (await http.get("/audit")).json()
    assert {event["origin"] for event in events} == {"127.0.0.1"}


async def test_list_is_filtered_and_paged(http: httpx.AsyncClient) -> None:
    assert await listed(http) == ["production", "staging", "dev"]
    assert await listed(http, actor="dev") == ["dev"]
    assert await listed(http, action="environment", limit=1, before=3) == ["staging"]
    assert await listed(http, since="2026-05-06T07:08:09") == ["production", "staging", "dev"]
    assert await listed(http, until="2026-05-06T07:08:09Z") == []
    assert await listed(http, since=(NOW + timedelta(seconds=1)).isoformat()) == []


@pytest.mark.parametrize("path", ["/audit/4", "/audit/2147483647"])
async def test_missing_event_is_404(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    ["/audit/0", "/audit/x", "/audit/99999999999", "/audit?before=99999999999", "/audit?since=x",
     "/audit/chain?limit=0", "/audit/chain?after=-1"],
)  # fmt: skip
async def test_what_no_event_can_be_is_refused(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_chain_check_key_and_archive(http: httpx.AsyncClient) -> None:
    page = (await http.get("/audit/chain")).json()
    assert [event["sequence"] for event in page["events"]] == [1, 2, 3]
    assert [head["sequence"] for head in page["heads"]] == [0, 3]
    change = (await http.post("/audit/rotate-key")).json()
    assert change["before"] != change["after"]
    later = {"before": "2026-06-01T00:00:00Z"}
    planned = (await http.post("/audit/prune", json={**later, "dry_run": True})).json()
    assert (planned["last"], planned["dry_run"]) == (3, True)
    assert (await http.post("/audit/prune", json=later)).json()["events"] == 3
    check = (await http.get("/audit/check", params={"archives": True})).json()
    assert (check["holds"], check["first"], check["last"]) == (True, 4, 5)
    assert (await http.post("/audit/prune", json={"before": "2026-06-01"})).status_code == 400
