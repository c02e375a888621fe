"""What hostile callers send to control, and that it answers them in few words and goes on."""

import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from shipway.api.connections import BoundedConnection
from shipway.core.arrival import Patience
from shipway.wire.head import MAX_FIELDS, TARGET_LIMIT_BYTES

sys.path.insert(0, str(Path(__file__).parent))
from control_process import control_process

HEAD = b"GET /api/v1/health HTTP/1.1\r\nhost: a\r\n"
POST = b"PUT /api/v1/endpoints/e HTTP/1.1\r\nhost: a\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    with control_process(tmp_path_factory.mktemp("control")) as running:
        yield running


def statuses(answer):
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"y" * TARGET_LIMIT_BYTES + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
        (HEAD + b"x: " + b"y" * 400_000, 431),
        (HEAD + b"x: y\r\n" * (MAX_FIELDS + 1) + b"\r\n", 431),
        (CHUNKED + b"0\r\nx: " + b"y" * 400_000, 431),
        (CHUNKED + b"0\r\n" + b"x: y\r\n" * (MAX_FIELDS + 1) + b"\r\n", 431),
        (b"GET /api/v1/health HTTP/1.1\r\n\r\n", 400),
        (b"GET /api/v1/health HTTP/2.0\r\nhost: a\r\n\r\n", 400),
        (b"GET /api/v1/health\r\n\r\n", 400),
        (HEAD + b"host: b\r\n\r\n", 400),
        (HEAD + b"authorization: a\r\nauthorization: b\r\n\r\n", 400),
        (b"CONNECT inside:80 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
    ids=["target", "endless header", "headers", "endless trailer", "trailers", "no host", "HTTP/2.0",
         "HTTP/0.9", "two hosts", "two credentials", "a tunnel", "another coding", "both framings", "nonsense"],
)  # fmt: skip
def test_a_bad_head_is_refused_in_problems_own_form(control, data, status):
    answer = control.raw(data)
    assert status in statuses(answer)
    assert len(answer) < 2000
    with control.client() as http:
        assert http.get("/health").status_code == 200


def test_a_wish_to_upgrade_is_passed_over_and_answered_once(control):
    upgrading = b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n"
    credentials = b"".join(f"{key}: {value}\r\n".encode() for key, value in control.headers.items())
    sent = b"PUT /api/v1/environments/e HTTP/1.1\r\nhost: a\r\n" + credentials + upgrading
    answer = control.raw(sent + b"\r\n[]" + HEAD + b"connection: close\r\n\r\n")
    assert statuses(answer) == [422, 200]


def test_trailers_are_no_headers(control):
    name = "x-shipway-actor: mallory"
    body = json.dumps({"name": "trailed"}).encode()
    control.raw(
        b"PUT /api/v1/environments/trailed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
        + b"".join(f"{key}: {value}\r\n".encode() for key, value in control.headers.items())
        + b"\r\n%x\r\n%s\r\n0\r\n%s\r\n\r\n" % (len(body), body, name.encode())
    )
    with control.client() as http:
        events = http.get("/audit", params={"limit": 50}).text
    assert "trailed" in events
    assert "mallory" not in events


@pytest.mark.parametrize(
    "path", ["/endpoints/e", "/endpoints/e/deploy", "/environments/e", "/models/m/aliases/a"]
)
def test_a_body_over_the_limit_is_refused(control, path):
    with control.client() as http:
        method = "POST" if path.endswith("deploy") else "PUT"
        assert http.request(method, path, content=b" " * (1024 * 1024 + 1)).status_code == 413


BOMBS = {
    "deep lists": b"[" * 500_000,
    "deep objects": b'{"a":' * 150_000,
    "a huge float": b'{"name":"e","model":"m","warm_s":1e999}',
    "a huge integer": b'{"name":"e","model":"m","replicas":' + b"9" * 5000 + b"}",
    "a huge version": b'{"name":"e","model":"m:' + b"9" * 5000 + b'"}',
    "a version beyond databases": b'{"name":"e","model":"m:99999999999999999999"}',
    "NaN": b'{"name":"e","model":"m","warm_s":NaN}',
    "a key twice": b'{"name":"e","name":"\\u0000","model":"m"}',
    "no UTF-8": b'{"name":"\xff\xfe","model":"m"}',
    "half a surrogate": b'{"name":"\\ud800","model":"m"}',
    "a byte order mark": b'\xef\xbb\xbf{"name":"e","model":"m"}',
    "many keys": b"{" + b",".join(b'"k%d":1' % n for n in range(60_000)) + b"}",
    "a long key": b'{"' + b"k" * 900_000 + b'":1}',
    "nothing": b"",
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/endpoints/e"), ("POST", "/endpoints/e/deploy"), ("PUT", "/environments/e"),
     ("PUT", "/models/m/aliases/a"), ("POST", "/models/m/versions/1/evaluations"),
     ("POST", "/endpoints/e/rollout/outcomes")],
)  # fmt: skip
def test_a_json_bomb_is_the_callers_fault(control, method, path, body):
    with control.client() as http:
        answer = http.request(method, path, content=body)
    assert 400 <= answer.status_code < 500
    answer.json()


NAMES = [
    "%2e", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a%2Fb", "a%5c..%5cb", "%00", "a%0d%0aset-cookie:x",
    "%1b%5b2J", "%e2%80%ae", "%ff%fe", "%ed%a0%80", "x" * 10_000, "A", "%20", "%D0%B0dmin",
    "'; drop table models; --", "{}", "@", "@%00", "-1", "0", "1" * 400, "%25%32%66", "con", "*",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_names_nothing(control, name):
    with control.client() as http:
        for path in (
            f"/models/{name}", f"/models/m/versions/{name}", f"/models/m/versions/1/files/{name}",
            f"/models/m/diff?from={name}&to={name}", f"/models/{name}/where", f"/bundles/{name}",
            f"/endpoints/{name}", f"/endpoints/{name}/logs", f"/endpoints/{name}/rollout",
            f"/environments/{name}", f"/audit?subject={name}",
        ):  # fmt: skip
            answer = http.get(path)
            assert answer.status_code in (200, 400, 404, 414, 422), path
            assert answer.status_code != 200 or path.startswith("/audit")
            assert "root:" not in answer.text
        for path in (f"/models/{name}/versions", f"/models/m/aliases/{name}"):
            answer = http.request("PUT" if "aliases" in path else "POST", path, json={"version": 1})
            assert 400 <= answer.status_code < 500, path


def test_a_header_with_an_escape_sequence_is_refused_and_reaches_no_log(control):
    assert statuses(control.raw(HEAD + b"x-shipway-actor: a\x1b[2J\r\n\r\n")) == [400]
    assert "\x1b" not in control.log()


def test_control_is_not_larger_after_all_that(control):
    assert control.memory_mb() < 600
    assert "incident" not in control.log()


class Hurried(BoundedConnection):
    patience = Patience(grace_s=0.3, least_bytes_per_s=1000, look_every_s=0.05)


async def waiting(scope, receive, send):
    """An application that reads the whole body, and is slow itself where it is asked to be."""
    while True:
        message = await receive()
        if not message.get("more_body"):
            break
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def hurried():
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        waiting, http=Hurried, ws="none", lifespan="off", log_level="warning", loop="asyncio"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"GET / HTTP/1.1\r\nho", b"z"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n", b"z"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"\r\n"),
    ],
    ids=["silence", "empty lines", "headers", "body", "chunks", "trailers", "after an answer"],
)
def test_a_byte_now_and_then_does_not_keep_a_connection(hurried, begun, more):
    with socket.create_connection(hurried) as caller:
        caller.sendall(begun)
        caller.settimeout(0.05)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                caller.sendall(more)
                if not caller.recv(1000):
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("the connection was kept")


def test_a_body_that_comes_at_a_fair_rate_is_waited_for(hurried):
    with socket.create_connection(hurried, timeout=10) as caller:
        caller.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n")
        for _ in range(10):
            caller.sendall(b"x" * 200)
            time.sleep(0.1)
        assert caller.recv(1000).startswith(b"HTTP/1.1 200")
