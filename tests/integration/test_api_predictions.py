"""The routes of the prediction log: what is posted, asked, refused, and who may."""

from __future__ import annotations

import asyncio
import base64
import io
import math
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from shipway.api.app import create_app
from shipway.api.services import Services
from shipway.control import performance as performance_module
from shipway.control import queries as queries_module
from shipway.control.access import Access, KeyRequest
from shipway.control.audit import AuditLog
from shipway.control.performance import Performances
from shipway.control.predictions import Predictions
from shipway.control.queries import Queries
from shipway.control.registry import Registry
from shipway.control.turns import MOST_WAITING, Turns
from shipway.core.access import ANYBODY, Grant
from shipway.core.access import Role as Granted
from shipway.core.captures import Feedback, Role, Shape
from shipway.core.errors import QueueFull
from shipway.core.logged import Explanation, LoggedRows, LogStats
from shipway.core.performance import Performance
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from spooling import NOW, micros, prediction, segment, shape, texts

ROUTE = "/api/v1/endpoints/churn/predictions"
SEGMENTS = "/internal/v1/segments"


class Control:
    """The API over an empty log."""

    def __init__(self, state: Path, database: Database) -> None:
        self.state = state
        artifacts = ArtifactStore(str(state / "artifacts"))
        predictions = Predictions(database, artifacts, environment="dev", state_dir=state)
        self.access = Access(database, environment="dev", is_on=True)
        services = Services(
            registry=Registry(database, artifacts),
            audit=AuditLog(database),
            access=self.access,
            staging=Staging(state / "staging"),
            now=lambda: NOW,
            predictions=predictions,
            queries=Queries(database, predictions, state_dir=state),
            performances=Performances(database, predictions, state_dir=state),
        )
        self.app = create_app(services)
        self.gateway = self.key("gateway")
        self.operator = self.key("operator")

    def key(self, role: str, project: str = "*") -> str:
        wanted = KeyRequest(name=role, grants=(Grant(role=Granted(role), project=project),))
        return self.access.create(wanted, ANYBODY, actor="test", now=NOW).key

    def ask(self, method: str, path: str, *, key: str = "", **options: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with self.http(key or self.operator) as http:
                return await http.request(method, path, **options)

        return asyncio.run(asked())

    def http(self, key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://control",
            headers={"authorization": f"Bearer {key}"},
        )

    def post(self, data: bytes) -> httpx.Response:
        return self.ask("POST", SEGMENTS, key=self.gateway, content=data)

    def rows(self, **query: Any) -> list[dict[str, Any]]:
        answer = self.ask("GET", ROUTE, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    database = Database.open(sqlite_url(tmp_path))
    yield Control(tmp_path, database)
    database.close()


@pytest.fixture
def filled(control: Control) -> Control:
    """Five requests of one row each, a minute apart, the newest at NOW."""
    data = segment(
        prediction(
            f"r-{i}", at=NOW - timedelta(minutes=i),
            inputs={"age": np.array([40.0 + i]), "plan": texts("basic" if i % 2 else "o'pro")},
        )
        for i in range(5)
    )  # fmt: skip
    assert control.post(data).status_code == 204
    return control


def test_a_segment_is_answered_alike_when_it_comes_again(control):
    data = segment([prediction("r-1")])
    assert [control.post(data).status_code for _ in range(2)] == [204, 204]
    assert [row["_request_id"] for row in control.rows()] == ["r-1"]


def test_bytes_that_are_no_segment_are_refused_and_kept(control):
    answer = control.post(b"nonsense")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    (kept,) = (control.state / "spool-rejected").iterdir()
    assert kept.read_bytes() == b"nonsense"


def test_a_segment_may_not_be_larger_than_64_mb(control):
    assert control.post(bytes(64 * 1024**2 + 1)).status_code == 413


def test_rows_come_newest_first_and_say_when_there_are_more(filled):
    answer = filled.ask("GET", ROUTE, params={"limit": 2}).json()
    assert [row["_request_id"] for row in answer["rows"]] == ["r-0", "r-1"]
    assert answer["is_cut"]
    answer = filled.ask("GET", ROUTE, params={"limit": 5}).json()
    assert (len(answer["rows"]), answer["is_cut"]) == (5, False)


def test_rows_are_chosen_by_condition_time_version_and_column(filled):
    def found(**query: Any) -> list[str]:
        return [row["_request_id"] for row in filled.rows(**query)]

    assert found(where="age > 42 AND plan = 'basic'") == ["r-3"]
    assert found(where="plan LIKE 'o''%'") == ["r-0", "r-2", "r-4"]
    since = (NOW - timedelta(minutes=2)).isoformat()
    assert found(since=since, until=NOW.isoformat()) == ["r-1", "r-2"]
    assert (found(version=1), found(version=2)) == ([f"r-{i}" for i in range(5)], [])
    (row,) = filled.rows(columns="age,_request_id", where="_request_id = 'r-3'")
    assert row == {"age": 43.0, "_request_id": "r-3"}


def test_rows_come_as_csv_and_parquet(filled):
    answer = filled.ask("GET", ROUTE, params={"format": "csv", "columns": "_request_id,plan"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines()[:3] == ["_request_id,plan", "r-0,o'pro", "r-1,basic"]
    answer = filled.ask("GET", ROUTE, params={"format": "parquet", "where": "age < 42"})
    table = pq.read_table(io.BytesIO(answer.content))
    assert table["age"].to_pylist() == [40.0, 41.0]
    assert list((filled.state / "staging").iterdir()) == []


def test_values_that_json_does_not_have_are_texts(control):
    of = Shape(
        environment="dev", endpoint="churn", model="churn", version=1,
        inputs=(Field(name="x", dtype=DataType.FP64), Field(name="raw", dtype=DataType.BYTES),
                Field(name="big", dtype=DataType.UINT64)),
        outputs=(Field(name="scores", dtype=DataType.FP32, shape=(-1, 2)),),
    )  # fmt: skip
    one = prediction(
        of=of,
        inputs={"x": np.array([np.inf]), "raw": texts(b"\0\xff"), "big": np.array([2**64 - 1], "u8")},
        outputs={"scores": np.array([[np.nan, -np.inf]], "f4")},
    )  # fmt: skip
    control.post(segment([one]))
    (row,) = control.rows()
    assert row["x"] == str(math.inf)
    assert base64.b64decode(row["raw"]) == b"\0\xff"
    assert (row["big"], row["scores"]) == (2**64 - 1, [None, str(-math.inf)])


@pytest.mark.parametrize(
    "where",
    [
        "true; DROP VIEW predictions",
        "COPY",
        "age > 1 \0",
        "nonsense > 1",
        "plan::INTEGER = 1",
        "strptime(plan, '%Y') > now()",
    ],
)
def test_a_condition_that_cannot_be_used_is_the_callers_mistake(filled, where):
    answer = filled.ask("GET", ROUTE, params={"where": where, "format": "csv"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "condition cannot be used: " in answer.json()["detail"]


def test_a_wrong_column_is_named_with_those_that_there_are(filled):
    answer = filled.ask("GET", ROUTE, params={"columns": "agee"}).json()
    assert "`agee`" in answer["detail"]
    assert "`age`" in answer["next_step"]
    answer = filled.ask("GET", ROUTE, params={"where": "agee > 1"}).json()
    assert "agee" in answer["detail"]
    assert "`age`" in answer["next_step"]


def test_a_query_ends_when_its_time_is_over(filled, monkeypatch):
    monkeypatch.setattr(queries_module, "TIMEOUT_S", 0.0)
    answer = filled.ask("GET", ROUTE)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize(
    ("module", "path"),
    [(queries_module, ROUTE), (performance_module, "/api/v1/endpoints/churn/performance")],
    ids=["queries", "performance"],
)
def test_slow_questions_do_not_hold_up_other_routes(filled, monkeypatch, module, path):
    may_end = threading.Event()

    def slow(_: str, order: bytes, **__: Any) -> bytes:
        may_end.wait(60)
        if module is queries_module:
            Path(msgspec.json.decode(order)["out"]).write_bytes(b"{}")
        return msgspec.json.encode(Performance(endpoint="churn", slices=()))

    monkeypatch.setattr(module, "run", slow)
    held = module.AT_ONCE + MOST_WAITING

    async def asked() -> list[httpx.Response]:
        async with filled.http(filled.operator) as http:
            asking = [asyncio.create_task(http.get(path)) for _ in range(100)]
            try:
                async with asyncio.timeout(20):
                    for refusal in islice(asyncio.as_completed(asking), 100 - held):
                        assert (await refusal).status_code == 429
                    assert (await http.get(f"{ROUTE}/stats")).status_code == 200
            finally:
                may_end.set()
            return list(await asyncio.gather(*asking))

    answers = asyncio.run(asked())
    refused = [one for one in answers if one.status_code == 429]
    assert len(refused) == 100 - held
    assert {one.status_code for one in answers if one not in refused} == {200}
    assert {one.json()["code"] for one in refused} == {"queue_full"}
    assert {one.headers["retry-after"] for one in refused} == {"10"}
    assert "Try again in 10 s" in refused[0].json()["next_step"]


def test_turns_are_given_back_however_they_end():
    turns = Turns("tries", at_once=1, wait_s=0.0)
    for _ in range(MOST_WAITING + 2):
        with pytest.raises(ZeroDivisionError), turns.taken():
            raise ZeroDivisionError
        with turns.taken(), pytest.raises(QueueFull, match="Too many tries"), turns.taken():
            pass


def test_a_request_is_explained_with_all_that_answered_and_what_became_of_it(control):
    primary, shadow = shape(version=1), shape(version=2)
    facts = {"segment": "eu", "key": "customer 7"}
    said = [
        Feedback(environment="dev", endpoint="churn", at_us=micros(NOW) + 5, request_id="a/b?c",
                 label="yes", id="f-1"),
        Feedback(environment="dev", endpoint="churn", at_us=micros(NOW) + 9, key="customer 7",
                 outcomes={"revenue": 2.5}),
        Feedback(environment="dev", endpoint="churn", at_us=micros(NOW), request_id="other"),
    ]  # fmt: skip
    control.post(
        segment(
            [
                prediction("a/b?c", of=primary, **facts),
                prediction("a/b?c", of=shadow, role=Role.SHADOW, at=NOW + timedelta(seconds=1)),
                prediction("other", of=primary),
            ],
            said,
        )
    )
    answer = control.ask("GET", f"{ROUTE}/a%2Fb%3Fc")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    first, second = found["answers"]
    assert (first["version"], first["role"], first["key"]) == (1, "primary", "customer 7")
    assert (second["version"], second["role"], second["latency_ms"]) == (2, "shadow", 1.5)
    assert first["rows"] == [{"inputs": {"age": 41.5, "plan": "basic"}, "outputs": {"label": 1}}]
    label, revenue = found["feedback"]
    assert (label["label"], label["id"], label["outcomes"]) == ("yes", "f-1", {})
    assert (revenue["outcomes"], revenue["key"]) == ({"revenue": 2.5}, "customer 7")
    assert control.ask("GET", f"{ROUTE}/unknown").json()["code"] == "not_found"


def test_a_request_is_not_explained_with_what_is_said_of_others_of_its_key(control):
    def said(minutes: int, label: str) -> Feedback:
        at_us = micros(NOW + timedelta(minutes=minutes))
        return Feedback(environment="dev", endpoint="churn", at_us=at_us, key="k", label=label)

    asked = [
        prediction(f"r-{n}", at=NOW + timedelta(minutes=10 * n), key="k", segment="eu")
        for n in range(2)
    ]
    control.post(segment(asked, [said(-1, "too early"), said(5, "first"), said(15, "second")]))
    for n, label in enumerate(["first", "second"]):
        found = control.ask("GET", f"{ROUTE}/r-{n}").json()["feedback"]
        assert [one["label"] for one in found] == [label]


@pytest.mark.parametrize("request_id", ["", "r%00-1", "nobody's"])
def test_an_id_that_no_request_has_is_not_found(filled, request_id):
    answer = filled.ask("GET", f"{ROUTE}/{request_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_rows_since_the_first_day_of_all_are_all(control):
    said = Feedback(environment="dev", endpoint="churn", at_us=micros(NOW), request_id="r-1")
    control.post(segment([prediction("r-1")], [said]))
    assert len(control.rows(since="0001-01-01")) == 1


def test_how_much_is_stored_is_told(filled):
    found = filled.ask("GET", f"{ROUTE}/stats").json()
    assert (found["rows"], found["feedback_rows"], found["files"]) == (5, 0, 1)
    assert found["size_bytes"] > 0
    (version,) = found["versions"]
    assert (version["model"], version["version"], version["rows"]) == ("churn", 1, 5)
    assert [one["endpoint"] for one in filled.ask("GET", "/api/v1/predictions").json()] == ["churn"]


def test_an_endpoint_without_a_log_is_not_found_and_others_are_not_told(filled):
    for path in ("", "/stats", "/r-1"):
        answer = filled.ask("GET", f"/api/v1/endpoints/other/predictions{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "endpoint_not_found")


def test_tenants_and_viewers_do_not_see_rows(filled):
    mine = [prediction("secret", of=shape("mine.a"))]
    filled.post(segment(mine))
    theirs, viewer = filled.key("operator", "theirs"), filled.key("viewer", "mine")
    route = "/api/v1/endpoints/mine.a/predictions"
    for path in ("", "/stats", "/secret"):
        assert filled.ask("GET", route + path, key=theirs).status_code == 404
    assert filled.ask("GET", route, key=viewer).status_code == 403
    assert filled.ask("GET", f"{route}/secret", key=viewer).status_code == 403
    assert filled.ask("GET", f"{route}/stats", key=viewer).status_code == 200
    assert filled.ask("GET", "/api/v1/predictions", key=theirs).json() == []
    assert filled.ask("POST", SEGMENTS, key=theirs, content=segment(mine)).status_code == 403
    developer = filled.key("developer", "mine")
    found = filled.ask("GET", route, key=developer).json()
    assert [row["_request_id"] for row in found["rows"]] == ["secret"]


def test_the_answers_are_as_the_api_describes_them(filled):
    kinds = {"": LoggedRows, "/stats": LogStats, "/r-1": Explanation}
    for path, kind in kinds.items():
        msgspec.json.decode(filled.ask("GET", f"{ROUTE}{path}").content, type=kind)
