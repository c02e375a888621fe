"""Every route x every role x own or another tenant's: exactly what the table of rights says.

The routes are walked, not listed: a route of the control API, a dialect or a gRPC method without a row here
fails the test.
"""

import json
import re
from contextlib import closing

import grpc
import httpx
import pytest

from shipway.api import internal
from shipway.api.rules import PREFIX, About, rule_of
from shipway.bootstrap.clock import clock
from shipway.control.alerts import Alerts
from shipway.core.signals import Signal
from shipway.gateway.app import Gateway
from shipway.gateway.grpc.messages import message_class
from shipway.gateway.grpc.service import Services
from shipway.gateway.paths import _READERS
from shipway.gateway.reads import Reads
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.store.sql.database import Database, sqlite_url
from shipway.testing.live import live_server, onnx_bundle

MINE, THEIRS = "mine.m", "theirs.m"
RIGHTS = {
    "viewer": {"read"},
    "developer": {"read", "inspect", "register", "deploy"},
    "approver": {"read", "approve", "audit"},
    "operator": {"read", "inspect", "deploy", "audit"},
    "admin": {"read", "inspect", "register", "deploy", "approve", "audit", "administer"},
    "invoker": {"invoke"},
    "gateway": {"serve"},
}
"""Once more, by hand: what the code says is compared with it."""

NOBODY, EVERYWHERE = "nobody", "admin everywhere"
ROLES = [NOBODY, *RIGHTS, EVERYWHERE]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("matrix")
    with live_server(directory / "state") as server:
        for name in (MINE, THEIRS):
            onnx_bundle(directory / name, 2.0)
            server.register(name, directory / name)
            server.deploy(name, f"{name}:1")
        for name in (MINE, THEIRS):
            assert server.settled(name)["phase"] == "live"
        yield server


@pytest.fixture(scope="module")
def keys(server):
    """A key of each role in the project `mine`, and an admin's of all projects."""
    made = {NOBODY: ""}
    grants = {role: {"role": role, "project": "mine"} for role in RIGHTS}
    grants["gateway"] = {"role": "gateway"}
    grants[EVERYWHERE] = {"role": "admin"}
    for role, grant in grants.items():
        body = {"name": role.replace(" ", "-"), "grants": [grant]}
        answer = server.control.post("/keys", json=body)
        assert answer.status_code == 201, answer.text
        made[role] = answer.json()["key"]
    server.until(lambda: get(server, "/v2/models/mine.m", made["invoker"]).status_code == 200)
    return made


def proof(key):
    return {"authorization": f"Bearer {key}"} if key else {}


def get(server, path, key):
    return httpx.get(f"{server.running.gateway_url}{path}", headers=proof(key), timeout=20)


# The control API


def control_routes(server):
    document = server.control.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            yield method.upper(), path
    for route in internal.router.routes:
        for method in route.methods:
            yield method, route.path


def filled(path, tenant):
    """The path about a tenant's thing; what else it names does not exist, so that nothing is changed."""
    about_model = "{model}" in path
    values = {
        "{model}": tenant, "{name}": tenant, "{version}": "1", "{alias}": "none", "{digest}": "none",
        "{path}": "shipway.json", "{action}": "pause", "{key}": "none", "{subject}": "user:none",
        "{gateway}": "g", "{project}": "none", "{sequence}": "999999",
        "{monitor}": "none", "{run}": "none",
        "{request_id}": "none",
        "{alert}": "none", "{verb}": "resolve", "{silence}": "none", "{channel}": "none",
    }  # fmt: skip
    if path.startswith(f"{PREFIX}/environments"):
        values["{name}"] = "production"
    if about_model and path.endswith("/versions/{version}"):
        values["{version}"] = "99"
    for parameter, value in values.items():
        path = path.replace(parameter, value)
    assert "{" not in path, path
    return path


def expected(rule, role, *, own):
    """What the table says: `passed`, `unknown` caller, `forbidden`, or `hidden`."""
    if rule.about is About.NOTHING:
        return "passed"
    if role == NOBODY:
        return "unknown"
    if rule.about is About.CALLER:
        return "passed"
    is_everywhere = role in (EVERYWHERE, "gateway")
    has_right = rule.right.value in RIGHTS.get(role, RIGHTS["admin"])
    if rule.about is About.ANYTHING:
        return "passed" if has_right else "forbidden"
    if rule.about in (About.MODEL, About.ENDPOINT):
        if not own and not is_everywhere:
            return "hidden"
        return "passed" if has_right else "forbidden"
    return "passed" if has_right and is_everywhere else "forbidden"


def outcome(answer):
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
        return "unknown"
    if answer.status_code == 403:
        return "forbidden"
    if answer.status_code == 404 and answer.json()["code"] in (
        "model_not_found",
        "endpoint_not_found",
    ):
        return "hidden"
    assert answer.status_code < 500, answer.text
    return "passed"


@pytest.mark.parametrize("role", ROLES)
def test_control_gives_what_the_table_says(server, keys, role):
    routes = list(control_routes(server))
    assert len(routes) > 40
    wrong = []
    with httpx.Client(base_url=server.running.control_url, timeout=20) as client:
        for method, path in routes:
            declared = re.sub(r"{(path|request_id)}", r"{\1:path}", path)
            rule = rule_of(method, declared)
            assert rule is not None, f"{method} {path} has no rule"
            for tenant in (MINE, THEIRS):
                answer = client.request(
                    method,
                    filled(path, tenant),
                    params={"dry_run": "true", "from": "1", "to": "1", "environment": "dev"},
                    content=b"" if method in ("GET", "DELETE") else b"[",
                    headers=proof(keys[role]),
                )
                found, wanted = outcome(answer), expected(rule, role, own=tenant == MINE)
                if found != wanted:
                    wrong.append((method, path, tenant, found, wanted, answer.text[:200]))
    assert wrong == []


def test_lists_hold_what_the_caller_may_see(server, keys):
    def names(path, role):
        url = f"{server.running.control_url}{PREFIX}{path}"
        found = httpx.get(url, headers=proof(keys[role]), timeout=20).json()
        return {one["name"] for one in (found["endpoints"] if path == "/status" else found)}

    for path in ("/models", "/endpoints", "/status"):
        assert names(path, "viewer") == {MINE}, path
        assert names(path, EVERYWHERE) >= {MINE, THEIRS}, path
        assert names(path, "gateway") == set()
    assert names("/models", "invoker") == set()
    assert names("/endpoints", "invoker") == {MINE}
    assert "theirs" not in json.dumps([*names("/keys", "admin")])


@pytest.fixture(scope="module")
def alerts(server):
    """An alert of each tenant, one of the server itself, and a silence and a channel of `theirs`; by endpoint."""
    now = clock()
    made = {}
    with closing(Database.open(sqlite_url(server.state_dir))) as database:
        control = Alerts(database, environment="dev", acting=None)
        for endpoint in (MINE, THEIRS, ""):
            told = Signal(
                environment="dev", endpoint=endpoint, rule="drift", at=now, is_firing=True
            )
            control.observe([told], now)
            (made[endpoint],) = (a.id for a in control.newest() if a.endpoint == endpoint)
    silence = {"endpoint": THEIRS, "for_s": 900, "reason": "work"}
    made["silence"] = server.control.post("/silences", json=silence).json()["id"]
    channel = {"name": "theirs.ops", "url": "https://example.com/x"}
    assert server.control.post("/channels", json=channel).status_code == 201
    return made


def test_alerts_of_another_tenant_are_not_there(server, keys, alerts):
    url = f"{server.running.control_url}{PREFIX}"

    def client(role):
        return httpx.Client(base_url=url, headers=proof(keys[role]), timeout=20)

    with client("viewer") as viewer:
        assert {one["endpoint"] for one in viewer.get("/alerts").json()} == {MINE}
        assert viewer.get(f"/alerts/{alerts[MINE]}").status_code == 200
        assert viewer.post(f"/alerts/{alerts[MINE]}/resolve", json={}).status_code == 403
        assert viewer.get("/silences").json() == []
    with client("operator") as operator:
        for hidden in (alerts[THEIRS], alerts[""], "none"):
            assert operator.get(f"/alerts/{hidden}").status_code == 404
            for verb in ("acknowledge", "resolve", "act"):
                assert operator.post(f"/alerts/{hidden}/{verb}", json={}).status_code == 404
        answer = operator.post("/silences", json={"endpoint": THEIRS, "for_s": 9, "reason": "x"})
        assert answer.json()["code"] == "endpoint_not_found"
        silent = {"endpoint": "", "for_s": 9, "reason": "x"}
        assert operator.post("/silences", json=silent).status_code == 403
        assert operator.delete(f"/silences/{alerts['silence']}").status_code == 404
        assert operator.post(f"/alerts/{alerts[MINE]}/acknowledge", json={}).status_code == 200
    with client("admin") as admin:
        assert admin.get("/channels").json() == []
        for path in ("/channels/theirs.ops/test", "/channels/none/test"):
            assert admin.post(path).status_code == 404
        assert admin.delete("/channels/theirs.ops").status_code == 404
        channel = {"name": "theirs.ops", "url": "https://example.com/mine"}
        assert admin.post("/channels", json=channel).status_code == 403
        everywhere = {"name": "mine.all", "url": "https://example.com/x", "everywhere": True}
        assert admin.post("/channels", json=everywhere).status_code == 403
        own = {"name": "mine.ops", "url": "https://example.com/x"}
        assert admin.post("/channels", json=own).status_code == 201
    assert {one["endpoint"] for one in server.control.get("/alerts").json()} >= {MINE, THEIRS, ""}


def test_bodies_that_name_another_tenants_things_are_refused(server, keys):
    url, headers = f"{server.running.control_url}{PREFIX}", proof(keys["developer"])
    with httpx.Client(base_url=url, headers=headers, timeout=20) as mine:
        for answer in (
            mine.post("/endpoints/mine.new/deploy", json={"model": f"{THEIRS}:1"}),
            mine.put("/endpoints/mine.new", json={"model": THEIRS}),
            mine.post("/endpoints/mine.m/deploy", json={"model": MINE, "fallback": {"endpoint": THEIRS}}),
        ):  # fmt: skip
            assert answer.status_code == 404, answer.text
            assert "theirs" not in answer.text.replace(THEIRS, "")
        assert (
            mine.post("/endpoints/mine.new/deploy", json={"model": "mine.n:1"}).status_code == 404
        )
        # Names of others are not suggested either.
        assert THEIRS not in mine.get("/models/mine.theirs").text


def test_nobody_gives_away_more_than_they_administer(server, keys):
    url, headers = f"{server.running.control_url}{PREFIX}", proof(keys["admin"])
    with httpx.Client(base_url=url, headers=headers, timeout=20) as admin:
        own = {"role": "viewer", "project": "mine"}
        assert admin.post("/keys", json={"name": "ok", "grants": [own]}).status_code == 201
        for grant in (
            {"role": "viewer"},
            {"role": "viewer", "project": "theirs"},
            {"role": "viewer", "project": "m*"},
            {"role": "gateway", "project": "mine"},
        ):
            answer = admin.post("/keys", json={"name": "no", "grants": [grant]})
            assert answer.status_code == 403, answer.text
            answer = admin.put("/access/user:eve", json={"grants": [grant]})
            assert answer.status_code == 403, answer.text
        ids = {key["id"] for key in server.control.get("/keys").json()}
        seen = {key["id"] for key in admin.get("/keys").json()}
        for hidden in ids - seen:
            assert admin.delete(f"/keys/{hidden}").status_code == 404


def test_who_moves_an_alias_that_others_follow_must_be_allowed_to_deploy_them(server, keys):
    server.control.put("/models/mine.m/aliases/champion", json={"version": 1})
    server.deploy("theirs.follower", f"{MINE}@champion")
    url, headers = f"{server.running.control_url}{PREFIX}", proof(keys["developer"])
    moved = httpx.put(f"{url}/models/mine.m/aliases/champion", json={"version": 1}, headers=headers)
    assert moved.status_code == 404, moved.text
    server.control.delete("/endpoints/theirs.follower")
    moved = httpx.put(f"{url}/models/mine.m/aliases/champion", json={"version": 1}, headers=headers)
    assert moved.status_code == 200, moved.text


def test_denials_are_on_record(server, keys):
    get(server, f"/v2/models/{THEIRS}", keys["viewer"])
    url = f"{server.running.control_url}{PREFIX}/models/{THEIRS}"
    httpx.get(url, headers=proof(keys["viewer"]))

    def denials():
        events = server.control.get("/audit", params={"limit": 1000}).json()
        return [e for e in events if e["action"] == "access.deny" and e["actor"] == "viewer"]

    server.until(lambda: {e["subject"] for e in denials()} >= {THEIRS})
    assert {e["details"]["right"] for e in denials()} >= {"read"}


# The gateway over HTTP

ASKED = [
    ("POST", "/v2/models/{}/infer"),
    ("POST", "/v2/models/{}/versions/1/infer"),
    ("POST", "/v2/models/{}/generate"),
    ("POST", "/v2/models/{}/generate_stream"),
    ("POST", "/v1/models/{}:predict"),
    ("POST", "/v1/models/{}:classify"),
    ("POST", "/v1/models/{}:regress"),
    ("POST", "/v1/models/{}/versions/1:predict"),
    ("POST", "/v1/models/{}/labels/stable:predict"),
    ("POST", "/predictions/{}"),
    ("PUT", "/predictions/{}"),
    ("POST", "/predictions/{}/1"),
    ("POST", "/endpoints/{}/invocations"),
    ("POST", "/gateway/{}/invocations"),
    ("POST", "/models/{}/invocations"),
    ("POST", "/v2/models/{}/feedback"),
]
SHOWN = [
    ("GET", "/v2/models/{}"),
    ("GET", "/v2/models/{}/ready"),
    ("GET", "/v2/models/{}/versions/1"),
    ("GET", "/v2/models/{}/versions/1/ready"),
    ("GET", "/v2/models/{}/stats"),
    ("GET", "/v2/models/{}/versions/1/stats"),
    ("GET", "/v1/models/{}"),
    ("GET", "/v1/models/{}/metadata"),
    ("GET", "/v1/models/{}/versions/1"),
    ("GET", "/v1/models/{}/versions/1/metadata"),
    ("GET", "/models/{}"),
    ("GET", "/models/{}/all"),
    ("GET", "/models/{}/1"),
    ("GET", "/api/2.0/endpoints/{}"),
    ("POST", "/v2/repository/models/{}/load"),
    ("POST", "/v2/repository/models/{}/unload"),
]
LISTED = [
    ("POST", "/v2/repository/index"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v1/models"),
    ("GET", "/models"),
    ("GET", "/api/2.0/endpoints"),
]
OPEN = ["/", "/ping", "/health", "/livez", "/healthz", "/readyz", "/version", "/v2",
        "/v2/health/live", "/v2/health/ready"]  # fmt: skip


def test_every_root_of_the_gateway_has_rows_here():
    table = RouteTable(lambda: None)
    assert Gateway(table, Serving(table))
    asked = {path.split("/")[1] for _, path in ASKED}
    assert set(_READERS) <= asked
    assert set(Reads(table)._roots) <= {path.split("/")[1] for _, path in SHOWN + LISTED}


def gateway_expected(role, *, own, asks):
    if role == NOBODY:
        return 401
    if role == EVERYWHERE:
        return 403 if asks else 200
    if role == "gateway" or not own:
        return 404
    may = {"invoke"} if asks else {"invoke", "read"}
    return 200 if may & RIGHTS[role] else 403


@pytest.mark.parametrize("role", ROLES)
def test_the_gateway_gives_what_the_table_says(server, keys, role):
    wrong = []
    with httpx.Client(
        base_url=server.running.gateway_url, timeout=20, headers=proof(keys[role])
    ) as client:
        for routes, asks in ((ASKED, True), (SHOWN, False)):
            for method, path in routes:
                for tenant in (MINE, THEIRS):
                    answer = client.request(
                        method, path.format(tenant), content=b"" if asks else None
                    )
                    wanted = gateway_expected(role, own=tenant == MINE, asks=asks)
                    found = answer.status_code
                    is_let_in = found not in (401, 403, 404)
                    if found != wanted and not (wanted == 200 and is_let_in):
                        wrong.append(
                            (method, path.format(tenant), found, wanted, answer.text[:150])
                        )
        for method, path in LISTED:
            answer = client.request(method, path)
            names = {name for name in (MINE, THEIRS) if name in answer.text}
            sees_mine = bool({"read", "invoke"} & RIGHTS.get(role, RIGHTS["admin"]))
            wanted_names = {MINE, THEIRS} if role == EVERYWHERE else {MINE} if sees_mine else set()
            wanted_names = set() if role == NOBODY else wanted_names
            is_known = answer.status_code == (401 if role == NOBODY else 200)
            if not is_known or names != wanted_names:
                wrong.append((method, path, answer.status_code, names, wanted_names))
        for path in OPEN:
            answer = client.get(path)
            if answer.status_code != 200 or (role != EVERYWHERE and THEIRS in answer.text):
                wrong.append((path, answer.status_code, answer.text))
        metrics = client.get("/metrics").status_code
        assert metrics == (401 if role == NOBODY else 200 if role == EVERYWHERE else 403)
    assert wrong == []


# The gateway over gRPC

PUBLIC_METHODS = {"ServerLive", "ServerReady", "ServerMetadata"}
ASKING_METHODS = {"ModelInfer", "ModelStreamInfer"}
NAMING = {
    "ModelReady": "name", "ModelMetadata": "name", "ModelConfig": "name", "ModelStatistics": "name",
    "RepositoryModelLoad": "model_name", "RepositoryModelUnload": "model_name", "Check": "service",
    "Watch": "service",
}  # fmt: skip
LISTING_METHODS = {"RepositoryIndex"}


def grpc_methods():
    table = RouteTable(lambda: None)
    return [path.decode() for path in Services(table, Serving(table)).methods]


def message_for(path, tenant):
    service, method = path[1:].split("/")
    package = service.rpartition(".")[0]
    name = "HealthCheckRequest" if "Health" in service else f"{method}Request"
    name = "ModelInferRequest" if method in ASKING_METHODS else name
    message = message_class(f"{package}.{name}")()
    if method in ASKING_METHODS:
        message.model_name = tenant
    elif method in NAMING:
        setattr(message, NAMING[method], tenant)
    return message.SerializeToString()


def called(channel, path, message, key):
    metadata = [("authorization", f"Bearer {key}")] if key else []
    method = path.rpartition("/")[2]
    try:
        if method == "ModelStreamInfer":
            # Each answer of a stream carries its own error.
            call = channel.stream_stream(path)(iter([message]), metadata=metadata, timeout=20)
            replied = message_class("inference.ModelStreamInferResponse").FromString(next(call))
            return replied.error_message or "OK"
        if method == "Watch":
            call = channel.unary_stream(path)(message, metadata=metadata, timeout=20)
            replied = message_class("grpc.health.v1.HealthCheckResponse").FromString(next(call))
            call.cancel()
            is_unknown = replied.status == 3  # SERVICE_UNKNOWN, in place of an error
            return "NOT_FOUND" if is_unknown else "OK"
        channel.unary_unary(path)(message, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def grpc_outcome(said):
    words = {
        "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404,
        "does not say who calls": 401, "lacks the right": 403, "There is no endpoint": 404,
    }  # fmt: skip
    return next((status for word, status in words.items() if word in said), 200)


@pytest.mark.parametrize("role", ROLES)
def test_grpc_gives_what_the_table_says(server, keys, role):
    wrong = []
    with grpc.insecure_channel(server.running.grpc_address) as channel:
        for path in grpc_methods():
            method = path.rpartition("/")[2]
            known = PUBLIC_METHODS | ASKING_METHODS | set(NAMING) | LISTING_METHODS
            assert method in known, f"{method} has no row here"
            for tenant in (MINE, THEIRS):
                said = called(channel, path, message_for(path, tenant), keys[role])
                if method in PUBLIC_METHODS:
                    wanted = 200
                elif method in LISTING_METHODS:
                    wanted = 401 if role == NOBODY else 200
                else:
                    asks = method in ASKING_METHODS
                    wanted = gateway_expected(role, own=tenant == MINE, asks=asks)
                if grpc_outcome(said) != wanted:
                    wrong.append((method, tenant, said, wanted))
    assert wrong == []
