"""TLS of the gateway's own servers and of control's: who is let in, who is known, and new certificates."""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from datetime import timedelta
from functools import partial
from typing import ClassVar

import grpc
import httpx
import pytest
from fastapi import FastAPI, Request
from msgspec import structs

from shipway.api.peers import peer
from shipway.bootstrap.clock import clock
from shipway.bootstrap.server import ControlServer
from shipway.gateway import accepting
from shipway.gateway.grpc.call import Method, Reply
from shipway.gateway.grpc.server import serve as serve_grpc
from shipway.gateway.http import serve as serve_http
from shipway.gateway.tls import GatewayTls
from shipway.testing.certificates import Authority
from shipway.tls.authority import Role
from shipway.tls.contexts import caller_context, pinned_context
from shipway.tls.files import TlsFiles
from shipway.tls.serving import ServerTls
from shipway.wire.codec import Answer

TEXT = ((b"content-type", b"text/plain"),)


class WhoHttp:
    """Answers every request with its peer's identity and its body; `/big` with megabytes."""

    def handle(self, request):
        if request.path == "/big":
            return Answer(200, b"x" * 4_000_000, TEXT)
        return Answer(200, request.peer.encode() + b"|" + request.body, TEXT)

    def failed(self, request, answer):
        return answer

    def body_limit(self, request):
        return 10_000_000

    def refuse(self, error, path):
        return Answer(400, str(error).encode(), TEXT)


class WhoGrpc:
    """`/who/Am` answers with the identity of the peer."""

    methods: ClassVar = {b"/who/Am": Method(lambda data, timeout_s, metadata: Reply.carrying(metadata.peer.encode()))}  # fmt: skip

    def failed(self, metadata, reply):
        return reply

    def message_limit(self):
        return 1000


def control_app():
    app = FastAPI()

    @app.get("/")
    def who(request: Request) -> str:
        return peer(request)

    return app


class Door:
    """A server that speaks TLS, and its address."""

    def __init__(self, tls, port):
        self.tls, self.port = tls, port
        self.url = f"https://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def door(kind, files, *, drain_s=2.0):
    """One of the three servers."""
    stopping = asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    tls = ServerTls(files, alpn=("h2",) if kind == "grpc" else ("http/1.1",))
    made = Door(tls, listening.getsockname()[1])
    if kind == "control":
        server = ControlServer(control_app(), on_exit=lambda: None, tls=tls)
        running = asyncio.ensure_future(server._serve([listening]))
        stop = server.stop
    elif kind == "http":
        running = asyncio.ensure_future(
            serve_http(WhoHttp(), listening, stopping, drain_s=drain_s, tls=tls.context)
        )
        stop = stopping.set
    else:
        running = asyncio.ensure_future(
            serve_grpc(WhoGrpc(), listening, stopping, drain_s=drain_s, tls=tls.context)
        )
        stop = stopping.set
    if kind != "http":
        while listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0)  # until it listens
    try:
        yield made
    finally:
        stop()
        async with asyncio.timeout(20):
            await running


@pytest.fixture
def ca(tmp_path):
    made = Authority(tmp_path / "tls")
    made.issue("server")
    made.issue("jane", role=Role.CLIENT, hosts=())
    made.issue("gw-7", role=Role.GATEWAY)
    return made


async def who(kind, made, context_or_files):
    """Whom the server takes its caller for."""
    if kind == "grpc":
        return await asyncio.to_thread(_who_over_grpc, made, context_or_files)
    context = caller_context(context_or_files)
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as client:
        answer = await client.get(made.url, headers={"x-peer": "root", "peer": "root"})
        return answer.json() if kind == "control" else answer.text.partition("|")[0]


def _who_over_grpc(made, files):
    own = (files.client_key.read_bytes(), files.client_cert.read_bytes()) if files.client else ()
    credentials = grpc.ssl_channel_credentials(files.ca.read_bytes(), *own)
    with grpc.secure_channel(f"127.0.0.1:{made.port}", credentials) as channel:
        call = channel.unary_unary("/who/Am")
        try:
            return call(b"", timeout=10, metadata=(("peer", "root"),)).decode()
        except grpc.RpcError as exc:
            if exc.code() is grpc.StatusCode.UNAVAILABLE:
                raise ConnectionError(exc.details()) from exc
            raise


KINDS = ["http", "grpc", "control"]
REFUSED = (httpx.TransportError, ConnectionError)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_is_known_by_the_certificate_that_it_shows_and_by_nothing_else(ca, kind):
    async with door(kind, ca.serving()) as made:
        assert await who(kind, made, ca.calling()) == ""
        assert await who(kind, made, ca.calling("jane")) == "shipway://client/jane"
        assert await who(kind, made, ca.calling("gw-7")) == "shipway://gateway/gw-7"
        assert await who(kind, made, ca.calling()) == ""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_asks_for_no_certificate_knows_nobody(ca, kind):
    async with door(kind, ca.serving(asks=False)) as made:
        assert await who(kind, made, ca.calling("jane")) == ""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_of_another_ca_is_refused(ca, kind, tmp_path):
    other = Authority(tmp_path / "other")
    forged = other.issue("jane", role=Role.CLIENT, hosts=())
    assert forged.identity == "shipway://client/jane"
    files = other.calling("jane")
    async with door(kind, ca.serving()) as made:
        with pytest.raises(REFUSED):
            await who(kind, made, structs.replace(files, ca=ca.ca))
        with pytest.raises(REFUSED):
            await who(kind, made, other.calling())  # which does not trust the server


async def _lines(made, context, *, name="127.0.0.1", text=b"GET / HTTP/1.0\r\n\r\n"):
    """What a raw caller gets."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", made.port, ssl=context, server_hostname=name if context else None
        )
        try:
            writer.write(text)
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_that_has_expired_since_is_refused(ca, kind):
    """The caller does not look at its own certificate here: the server must."""

    async def shown(name):
        context = caller_context(ca.calling())
        context.load_cert_chain(ca.pair(name).cert, ca.pair(name).key)
        return await _lines(made, context)

    ca.issue("late", role=Role.CLIENT, at=clock() - timedelta(days=2), hosts=())
    async with door(kind, ca.serving()) as made:
        assert b"HTTP/1.1" in await shown("jane")
        with contextlib.suppress(OSError):
            assert await shown("late") == b""


async def test_who_only_calls_cannot_pass_for_a_server(ca):
    ca.issue("fake", role=Role.CLIENT)
    async with door("http", ca.serving("fake")) as made:
        with pytest.raises(httpx.TransportError, match="unsuitable certificate purpose"):
            await who("http", made, ca.calling())


async def test_a_server_must_have_the_name_by_which_it_is_called(ca):
    ca.issue("elsewhere", hosts=("models.example.com",))
    async with door("http", ca.serving("elsewhere")) as made:
        with pytest.raises(httpx.TransportError, match="IP address mismatch"):
            await who("http", made, ca.calling())
        context = caller_context(ca.calling())
        assert b"200 OK" in await _lines(made, context, name="models.example.com")


async def test_this_machines_own_server_is_known_by_its_very_certificate(ca, tmp_path):
    """Whatever name it has; another certificate of the same CA, with the right name, is not it."""
    ca.issue("elsewhere", hosts=("models.example.com",))
    exact = pinned_context(ca.pair("elsewhere").cert, ca.calling("jane"))
    async with door("http", ca.serving("elsewhere")) as made:
        assert (await _lines(made, exact)).endswith(b"shipway://client/jane|")
    async with door("http", ca.serving("server")) as made:
        with pytest.raises(ssl.SSLCertVerificationError):
            await _lines(made, exact)


async def test_pinning_a_chain_does_not_trust_all_that_its_issuer_issues(ca):
    chain = ca.pair("server").cert
    chain.write_bytes(chain.read_bytes() + ca.ca.read_bytes())
    exact = pinned_context(chain, ca.calling())
    ca.issue("other")
    async with door("http", ca.serving("server")) as made:
        assert b"200 OK" in await _lines(made, exact)
    async with door("http", ca.serving("other")) as made:
        with pytest.raises(ssl.SSLCertVerificationError):
            await _lines(made, exact)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
async def test_older_versions_of_tls_are_refused(ca, kind, version):
    """By the version alone: neither side minds old ciphers here, as some builds of OpenSSL do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion[version]
    async with door(kind, ca.serving()) as made:
        for own in (made.tls.context, made.tls._latest.value):
            own.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(_serial, context, made.port)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await asyncio.to_thread(_serial, context, made.port)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 200, b"PRI * HT"])
async def test_who_does_not_speak_tls_is_not_kept_waiting(ca, kind, text):
    async with door(kind, ca.serving()) as made:
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await _lines(made, None, text=text)
        assert b"HTTP" not in answer


async def test_http_on_the_port_of_grpc_is_told_so_over_tls_too(ca):
    async with door("grpc", ca.serving()) as made:
        answer = await _lines(made, caller_context(ca.calling()))
        assert b"400 Bad Request" in answer
        assert b"speaks gRPC" in answer


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handshake_that_does_not_end_is_ended(ca, kind, monkeypatch):
    for place in ("shipway.gateway.accepting", "shipway.bootstrap.server"):
        monkeypatch.setattr(f"{place}.HANDSHAKE_S", 0.3)
    async with door(kind, ca.serving()) as made:
        assert await _lines(made, None, text=b"\x16\x03\x01") == b""
        assert await who(kind, made, ca.calling("jane")) == "shipway://client/jane"


async def test_half_open_handshakes_keep_nobody_out_and_do_not_hold_up_the_end(ca, monkeypatch):
    monkeypatch.setattr(accepting, "GOODBYE_S", 0.2)
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as callers:
        async with door("http", ca.serving()) as made:
            for _ in range(200):
                reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
                callers.callback(writer.close)
            assert await who("http", made, ca.calling("jane")) == "shipway://client/jane"
            begun = loop.time()
        assert loop.time() - begun < 5
        async with asyncio.timeout(5):  # the end of the server is the end of its handshakes
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""


async def test_bodies_pass_whole_in_both_directions(ca):
    body = bytes(range(256)) * 12_000
    async with door("http", ca.serving()) as made, httpx.AsyncClient(
        verify=caller_context(ca.calling()), trust_env=False
    ) as client:  # fmt: skip
        big = await client.get(f"{made.url}/big")
        assert big.content == b"x" * 4_000_000
        echo = await client.post(made.url, content=body)
        assert echo.content == b"|" + body


def _serial(context, port, *, alpn=()):
    """The serial number of the certificate that a new connection is shown."""
    if alpn:
        context.set_alpn_protocols(alpn)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        return secured.getpeercert()["serialNumber"].lower().lstrip("0")


@pytest.mark.parametrize("kind", KINDS)
async def test_new_certificates_are_shown_without_a_restart(ca, kind):
    async with door(kind, ca.serving()) as made:
        for _ in range(3):
            renewed = ca.issue("server")
            assert made.tls.look()
            assert not made.tls.look()
            context = caller_context(ca.calling())
            assert await asyncio.to_thread(_serial, context, made.port) == renewed.serial


async def test_no_request_fails_while_certificates_change_under_load(ca):
    context = caller_context(ca.calling("jane"))
    counts = {"kept": 0, "new": 0}
    done = asyncio.Event()

    async def call(kind, client):
        answer = await client.get(made.url)
        assert (answer.status_code, answer.text) == (200, "shipway://client/jane|")
        counts[kind] += 1

    async def keep():
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as client:
            while not done.is_set():
                await call("kept", client)

    async def renew():
        while not done.is_set():
            async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as client:
                await call("new", client)

    async with door("http", ca.serving()) as made:
        async with asyncio.TaskGroup() as load:
            for _ in range(3):
                load.create_task(keep())
                load.create_task(renew())
            for _ in range(20):
                seen = dict(counts)
                renewed = ca.issue("server")
                assert made.tls.look()
                while min(counts[kind] - seen[kind] for kind in counts) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            done.set()
        assert await asyncio.to_thread(_serial, caller_context(ca.calling()), made.port) == renewed.serial  # fmt: skip
    assert counts["kept"] >= 60
    assert counts["new"] >= 60


async def test_a_half_written_pair_changes_nothing_and_is_told_once(ca, caplog):
    old = ca.issue("server")
    pair = ca.pair("server")
    ca.issue("next")
    renewed = ca.pair("next")

    async def shown():
        return await asyncio.to_thread(_serial, caller_context(ca.calling()), made.port)

    async with door("http", ca.serving()) as made:
        caplog.set_level(logging.WARNING, "shipway.tls")
        pair.cert.write_bytes(renewed.cert.read_bytes()[:100])
        assert not made.tls.look()
        assert not made.tls.look()
        assert await shown() == old.serial
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert str(pair.cert) in caplog.text
        caplog.clear()
        pair.cert.write_bytes(renewed.cert.read_bytes())  # its key is not there yet
        assert not made.tls.look()
        assert await shown() == old.serial
        assert "is not that of the certificate" in caplog.text
        pair.key.write_bytes(renewed.key.read_bytes())
        assert made.tls.look()
        assert await shown() != old.serial
        pair.cert.unlink()
        assert not made.tls.look()
        assert await shown() != old.serial


async def test_callers_of_a_ca_that_is_no_longer_trusted_are_refused(ca, tmp_path):
    other = Authority(tmp_path / "other")
    other.issue("kim", role=Role.CLIENT, hosts=())
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(ca.ca.read_bytes() + other.ca.read_bytes())
    server = ca.pair("server")
    files = TlsFiles(cert=server.cert, key=server.key, client_ca=trusted)
    kim = structs.replace(other.calling("kim"), ca=ca.ca)
    async with door("http", files) as made:
        assert await who("http", made, kim) == "shipway://client/kim"
        trusted.write_bytes(ca.ca.read_bytes())
        assert made.tls.look()
        with pytest.raises(REFUSED):
            await who("http", made, kim)
        assert await who("http", made, ca.calling("jane")) == "shipway://client/jane"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_resumed_session_proves_nothing(ca, version):
    """Its certificate may have expired, or lost its CA, since it was verified."""

    def calls():
        context = caller_context(ca.calling("jane"))
        context.maximum_version = version
        session, seen = None, []
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", made.port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secured,
            ):
                secured.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(partial(secured.recv, 4096), b""))
                session = secured.session
                seen.append((secured.session_reused, answer.rpartition(b"\r\n")[2]))
        return seen

    async with door("http", ca.serving()) as made:
        first, second = await asyncio.to_thread(calls)
    assert first == (False, b"shipway://client/jane|")
    assert second == ((True, b"|") if second[0] else (False, b"shipway://client/jane|"))


async def test_a_frame_of_http2_split_over_records_is_read(ca):
    context = caller_context(ca.calling("jane"), alpn=("h2",))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">HBBBI", 0, 0, 4, 0, 0)
    async with door("grpc", ca.serving()) as made, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, ssl=context)
        for byte in preface:
            writer.write(bytes((byte,)))
            await writer.drain()
        frames = await reader.readexactly(9)
        assert frames[3] == 4  # SETTINGS
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _seen_by_control(made, tls):
    """Whom control takes a gateway for."""
    async with httpx.AsyncClient(verify=tls.calling.value, trust_env=False, timeout=30) as client:
        return (await client.get(made.url)).json()


@pytest.mark.parametrize("pinned", [False, True], ids=["another machine's", "this machine's"])
async def test_a_gateway_shows_control_its_own_certificate(ca, pinned):
    gateway = ca.pair("gw-7")
    files = TlsFiles(cert=gateway.cert, key=gateway.key, ca=ca.ca, client_ca=ca.ca)
    tls = GatewayTls(files, control_cert=ca.pair("server").cert if pinned else None)
    async with door("control", ca.serving()) as made:
        assert await _seen_by_control(made, tls) == "shipway://gateway/gw-7"
        ca.issue("gw-7", hosts=("10.0.0.7",))
        assert tls.calling.look()
        assert await _seen_by_control(made, tls) == "shipway://gateway/gw-7"


async def test_a_gateway_whose_certificate_control_cannot_know_does_not_show_it(ca, tmp_path):
    """Control would refuse it; a certificate for calls is shown instead, when there is one."""
    public = Authority(tmp_path / "public")
    public.issue("models")
    own = public.pair("models")
    files = TlsFiles(cert=own.cert, key=own.key, ca=ca.ca, client_ca=ca.ca)
    jane = ca.pair("jane")
    with_client = structs.replace(files, client_cert=jane.cert, client_key=jane.key)
    async with door("control", ca.serving()) as made:
        assert await _seen_by_control(made, GatewayTls(files)) == ""
        assert await _seen_by_control(made, GatewayTls(with_client)) == "shipway://client/jane"


def test_a_gateway_without_certificates_speaks_plainly():
    tls = GatewayTls(TlsFiles())
    assert (tls.scheme, tls.http, tls.grpc, tls.calling) == ("http", None, None, None)
