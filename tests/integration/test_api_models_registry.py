"""The control API over a real socket, on SQLite and a directory."""

from __future__ import annotations

import io
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from shipway.api.app import create_app
from shipway.api.services import Services
from shipway.api.uploads import UploadLimits
from shipway.control.access import Access
from shipway.control.audit import AuditLog
from shipway.control.pruning import Pruning
from shipway.control.registry import Registry
from shipway.control.seals import Seals
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.versions import VersionRef
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging
from shipway.testing.bundles import write_bundle

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
LIMITS = UploadLimits(max_files=20, max_bytes=2_000_000)


@dataclass(frozen=True)
class Control:
    http: httpx.Client
    state: Path
    database: Database
    port: int

    def register(self, directory: Path, model: str = "churn", actor: str = "ada") -> httpx.Response:
        return self.upload(tar_of(directory), model=model, actor=actor)

    def upload(self, body: bytes, model: str = "churn", actor: str = "ada") -> httpx.Response:
        return self.http.post(
            f"/models/{model}/versions", content=body, headers={"X-Shipway-Actor": actor}
        )

    def left_over(self) -> list[Path]:
        staged = list((self.state / "staging").glob("*"))
        return staged + list((self.state / "artifacts").rglob("*"))


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    state = tmp_path / "state"
    database = Database.open(sqlite_url(state))
    seals = Seals(database, state)
    seals.sign(now=NOW)
    services = Services(
        registry=Registry(database, ArtifactStore(str(state / "artifacts"))),
        audit=AuditLog(database),
        access=Access(database, environment="dev", is_on=False),
        seals=seals,
        pruning=Pruning(seals),
        staging=Staging(state / "staging"),
        now=lambda: NOW,
        replicas_of=lambda endpoint, version: [{"id": f"{endpoint}-{version}"}],
        upload_limits=LIMITS,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = uvicorn.Config(create_app(services), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as http:
        yield Control(http, state, database, port)
    server.should_exit = True
    thread.join()
    listener.close()
    database.close()


def tar_of(directory: Path) -> bytes:
    return tar({str(p.relative_to(directory)): p.read_bytes() for p in _files(directory)})


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def tar(files: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return body.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"]
    return body


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle", metrics={"auc": 0.8})
    return tmp_path / "bundle"


def test_upload_registers_a_version_and_a_second_upload_finds_it(
    control: Control, bundle: Path
) -> None:
    first = control.register(bundle)
    assert first.status_code == 201
    version = first.json()
    assert (version["model"], version["number"], version["created"]) == ("churn", 1, True)
    assert (version["metrics"], version["created_by"]) == ({"auc": 0.8}, "ada")
    second = control.register(bundle)
    assert (second.status_code, second.json()["created"]) == (200, False)
    shown = control.http.get("/models/churn/versions/1").json()
    assert shown["manifest"]["digest"] == version["digest"]
    assert control.http.get(f"/bundles/{version['digest']}").status_code == 200
    (model,) = control.http.get("/models").json()
    assert [v["number"] for v in model["versions"]] == [1]
    assert list((control.state / "staging").glob("*")) == []


def test_alias_diff_where_and_audit_answer_as_the_contract_says(
    control: Control, bundle: Path, tmp_path: Path
) -> None:
    control.register(bundle)
    write_bundle(tmp_path / "other", metrics={"auc": 0.9})
    (tmp_path / "two").mkdir()
    write_bundle(tmp_path / "two", files={"model/model.bin": b"2"}, metrics={"auc": 0.9})
    control.register(tmp_path / "two")
    put = control.http.put("/models/churn/aliases/champion", json={"version": 2, "reason": "up"})
    assert put.json() == {"model": "churn", "alias": "champion", "version": 2, "previous": None}
    assert control.http.get("/models/churn/versions/@champion").json()["number"] == 2
    assert control.http.get("/models/churn/versions/latest").json()["aliases"] == ["champion"]

    diff = control.http.get("/models/churn/diff", params={"from": "1", "to": "@champion"}).json()
    assert (diff["before"], diff["after"]) == (1, 2)
    changed = {(change["section"], change["name"]) for change in diff["changes"]}
    assert ("metrics", "auc") in changed
    assert ("files", "examples.json") in changed

    spec = EndpointSpec(name="live", environment="dev", model="churn:2")
    state = EndpointState(spec=spec, generation=1, phase=Phase.LIVE, active=VersionRef("churn", 2))
    with control.database.transaction() as tx:
        tx.endpoints.put(state, expected_generation=None)
    assert control.http.get("/models/churn/where").json() == [
        {
            "endpoint": "live",
            "environment": "dev",
            "version": "churn:2",
            "role": "primary",
            "replicas": [{"id": "live-churn:2"}],
        }
    ]
    in_use = problem(control.http.delete("/models/churn/versions/2"), 409, "version_in_use")
    assert in_use["used_by"] == ["alias `champion`", "endpoint `live` (primary)"]
    assert control.http.delete("/models/churn/versions/1").status_code == 200
    assert control.http.delete("/models/churn/aliases/champion").json()["previous"] == 2

    events = control.http.get("/audit", params={"subject": "churn"}).json()
    assert [event["action"] for event in events] == [
        "alias.delete",
        "version.delete",
        "alias.set",
        "version.register",
        "version.register",
    ]
    assert events[2]["details"] == {"before": None, "after": 2, "reason": "up"}
    check = control.http.get("/audit/check").json()
    assert (check["holds"], check["broken"], check["last"]) == (True, None, len(events))


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/models/chrun", "model_not_found", "Did you mean `churn`?"),
        ("/models/churn/versions/9", "version_not_found", "Did you mean `churn:1`?"),
        ("/models/churn/versions/@best", "alias_not_found", "`churn@best`"),
        ("/models/%00", "model_not_found", "There is no model"),
        ("/bundles/sha256:00", "not_found", "not stored"),
        ("/nothing/here", "not_found", "no route"),
    ],
)
def test_unknown_name_is_a_404_that_names_it(
    control: Control, bundle: Path, path: str, code: str, words: str
) -> None:
    control.register(bundle)
    assert words in problem(control.http.get(path), 404, code)["detail"]


def test_malformed_requests_are_400_and_say_where(control: Control, bundle: Path) -> None:
    control.register(bundle)
    http = control.http
    body = problem(http.put("/models/churn/aliases/a", content=b"{"), 400, "invalid_request")
    assert "cannot be read" in body["detail"]
    body = problem(
        http.put("/models/churn/aliases/a", json={"version": "x"}), 400, "invalid_request"
    )
    assert "$.version" in body["detail"]
    problem(http.get("/models/churn/versions/x.y"), 400, "invalid_request")
    problem(http.get("/models/churn/diff", params={"from": "1"}), 400, "invalid_request")
    problem(http.get("/audit", params={"limit": "0"}), 400, "invalid_request")
    assert http.request("PATCH", "/models").status_code == 405


def test_unknown_key_in_a_body_is_refused(control: Control, bundle: Path) -> None:
    control.register(bundle)
    response = control.http.put("/models/churn/aliases/a", json={"version": 1, "reson": "typo"})
    assert "reson" in problem(response, 400, "invalid_request")["detail"]


def test_changed_byte_is_refused_naming_the_file_and_nothing_is_left(
    control: Control, bundle: Path
) -> None:
    (bundle / "model/model.bin").write_bytes(b"changed")
    body = problem(control.register(bundle), 422, "invalid_artifact")
    assert body["file"] == "model/model.bin"
    assert control.http.get("/models").json() == []
    assert control.left_over() == []


@pytest.mark.parametrize("length", [0, 100, 512, 700, 1500])
def test_truncated_upload_is_refused_and_nothing_is_left(
    control: Control, bundle: Path, length: int
) -> None:
    response = control.upload(tar_of(bundle)[:length])
    assert response.status_code in {400, 422}
    assert control.http.get("/models").json() == []
    assert control.left_over() == []


def test_upload_whose_connection_breaks_leaves_nothing(control: Control, bundle: Path) -> None:
    body = tar_of(bundle)
    head = f"POST /api/v1/models/churn/versions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", control.port)) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
    assert control.register(bundle).status_code == 201
    wait_until(lambda: list((control.state / "staging").glob("*")) == [])
    assert [v["number"] for v in control.http.get("/models/churn").json()["versions"]] == [1]


@pytest.mark.parametrize(
    "hostile",
    [
        tar({"../escape": b"x"}),
        tar({"/tmp/escape": b"x"}),
        tar({"a/../../escape": b"x"}),
        tar({"a": b"x", "a/b": b"x"}),
        tar({}, member("model", tarfile.SYMTYPE, "/etc")),
        tar({"a": b"x"}, member("b", tarfile.LNKTYPE, "a")),
        tar({}, member("null", tarfile.CHRTYPE)),
        tar({}, member("pipe", tarfile.FIFOTYPE)),
        tar({"twice": b"1"})[:1024] + tar({"twice": b"2"}),
        b"not a tar at all" * 100,
    ],
    ids=[
        "parent",
        "absolute",
        "inner",
        "file-dir",
        "symlink",
        "link",
        "dev",
        "fifo",
        "twice",
        "no",
    ],
)
def test_hostile_archive_is_refused_and_writes_nothing_outside(
    control: Control, hostile: bytes
) -> None:
    problem(control.upload(hostile), 400, "invalid_request")
    assert control.left_over() == []
    assert not (control.state / "escape").exists()


def test_upload_over_its_bounds_is_413(control: Control) -> None:
    many = tar({f"f{n}": b"" for n in range(LIMITS.max_files + 1)})
    problem(control.upload(many), 413, "body_too_large")
    large = tar({"large": b"\0" * (LIMITS.max_bytes + 64_000_000)})
    problem(control.upload(large), 413, "body_too_large")
    assert control.left_over() == []


def test_header_that_declares_gigabytes_is_refused_without_reading_them(control: Control) -> None:
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = 7 * 1024**3
    body = info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1_000_000
    assert "oversized" in problem(control.upload(body), 400, "invalid_request")["detail"]


def test_unexpected_error_answers_an_incident_and_no_traceback(
    control: Control, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Registry) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Registry, "models", fail)
    response = control.http.get("/models")
    body = problem(response, 500, "bug")
    assert "secret detail" not in response.text
    assert body["incident"] in caplog.text
    assert "secret detail" in caplog.text


def test_openapi_names_every_route_and_every_schema_it_refers_to(control: Control) -> None:
    schema = control.http.get("/openapi.json").json()
    assert {"/api/v1/models/{model}/versions", "/api/v1/audit", "/api/v1/health"} <= set(
        schema["paths"]
    )
    text = control.http.get("/openapi.json").text
    known = set(schema["components"]["schemas"])
    refs = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert refs <= known
    assert all(
        operation["summary"] for path in schema["paths"].values() for operation in path.values()
    )


def test_health_and_the_schema_of_endpoints_are_served(control: Control) -> None:
    assert control.http.get("/health").json()["status"] == "ok"
    schema = control.http.get("/schemas/endpoint").json()
    assert "warm_s" in schema["$defs"]["EndpointSpec"]["properties"]
