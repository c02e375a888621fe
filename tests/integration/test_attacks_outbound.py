"""URLs that lead inside: against a real server on loopback, which must not hear of them."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from shipway.control.outbound import JudgedTransport, outbound_client
from shipway.core.addresses import OutboundPolicy
from shipway.core.errors import InvalidRequest, ServerUnreachable

OUTSIDE = OutboundPolicy(plain=True)
LOOPBACK = OutboundPolicy(networks=("127.0.0.0/8",), plain=True)


class Inside(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.heard.append((self.path, self.headers["Host"]))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        leads = self.path.startswith("/to/")
        self.send_response(307 if leads else 200)
        if leads:
            self.send_header("Location", self.path.removeprefix("/to/"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture
def inside():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Inside)
    server.heard = []
    server.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def calling(policy, *answers):
    """A client whose resolver gives these answers, one after the other, whatever it is asked."""
    left = list(answers)
    transport = JudgedTransport(policy, lambda host, port: left.pop(0))
    return httpx.Client(transport=transport, follow_redirects=True, trust_env=False)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]",
     "[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_this_machine_is_not_called_by_any_of_its_names(inside, host):
    refused = pytest.raises((InvalidRequest, ServerUnreachable, httpx.InvalidURL))
    with outbound_client(OUTSIDE, timeout_s=5) as client, refused:
        client.post(f"http://{host}:{inside.port}/hook")
    assert inside.heard == []


def test_what_is_allowed_is_called_under_its_name(inside):
    with outbound_client(LOOPBACK, timeout_s=5) as client:
        assert client.post(f"http://127.0.0.1:{inside.port}/hook", json={}).status_code == 200
    with calling(LOOPBACK, ["127.0.0.1"]) as client:
        assert client.post(f"http://hooks.example:{inside.port}/named").status_code == 200
    assert inside.heard == [
        ("/hook", f"127.0.0.1:{inside.port}"),
        ("/named", f"hooks.example:{inside.port}"),
    ]


def test_a_redirect_leads_nowhere_that_the_policy_does_not_allow(inside):
    with outbound_client(LOOPBACK, timeout_s=5) as client:
        for place in (
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1/",
            "https://[::1]/",
        ):
            with pytest.raises(InvalidRequest):
                client.post(f"http://127.0.0.1:{inside.port}/to/{place}")
        with pytest.raises(InvalidRequest):
            client.post(f"http://127.0.0.1:{inside.port}/to/file:///etc/passwd")
        own = f"http://127.0.0.1:{inside.port}"
        with pytest.raises(httpx.TooManyRedirects):
            client.post(f"{own}/to/{own}/to/{own}/to/{own}/to/{own}/to/{own}/end")


def test_a_name_is_looked_up_once_and_what_it_means_later_does_not_count(inside):
    with calling(LOOPBACK, ["127.0.0.1"], ["169.254.169.254"]) as client:
        assert client.post(f"http://rebound.example:{inside.port}/once").status_code == 200
        with pytest.raises(InvalidRequest):
            client.post(f"http://rebound.example:{inside.port}/twice")
    assert [path for path, _ in inside.heard] == ["/once"]


def test_a_name_that_means_inside_and_outside_is_refused(inside):
    both = ["93.184.216.34", "127.0.0.1"]
    with calling(OUTSIDE, both) as client, pytest.raises(InvalidRequest):
        client.post(f"http://both.example:{inside.port}/")
    assert inside.heard == []


def test_proxies_of_the_environment_are_not_asked(inside, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{inside.port}")
    refused = pytest.raises((InvalidRequest, ServerUnreachable))
    with outbound_client(OUTSIDE, timeout_s=5) as client, refused:
        client.post("http://127.0.0.1:1/")
    assert inside.heard == []


def test_plain_http_is_refused_by_default(inside):
    policy = OutboundPolicy(networks=("127.0.0.0/8",))
    with outbound_client(policy, timeout_s=5) as client, pytest.raises(InvalidRequest):
        client.post(f"http://127.0.0.1:{inside.port}/")
    assert inside.heard == []
