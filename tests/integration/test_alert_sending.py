"""Messages on their way: webhooks that fail, are slow or hang up, and services behind Apprise, with real processes."""

from __future__ import annotations

import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from shipway.control.alerting import commanding
from shipway.control.alerting.channels import ChannelRequest, Channels
from shipway.control.alerting.courier import Courier, Parcel, Way
from shipway.control.alerting.outbox import put_message
from shipway.control.alerting.sending import AT_ONCE, Secrets, Sender
from shipway.control.alerting.webhooks import posted
from shipway.control.changes import Request
from shipway.core.addresses import OutboundPolicy
from shipway.core.alerts.lifecycle import Event
from shipway.core.alerts.messages import Item, Message, MessageKind
from shipway.core.alerts.sending import LEASE_S, LONGEST_PAUSE_S
from shipway.core.errors import (
    InvalidRequest,
    InvalidSpec,
    SecretUnavailable,
    ServerUnreachable,
    StateUnusable,
)
from shipway.core.secrets import SecretRef, SecretRules
from shipway.core.signals import Severity
from shipway.store.sealing import Sealer
from shipway.store.sql.database import Database, sqlite_url
from shipway.testing.webhooks import receiver
from shipway.wire.webhooks import SIGNATURE, is_signed

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
LOOPBACK = OutboundPolicy(networks=("127.0.0.0/8",), plain=True)
ADA = Request(actor="ada", now=NOW)
carry = Courier(Path("none"), timeout_s=20).carry
WANTED = Message(
    kind=MessageKind.RETRAIN,
    environment="dev",
    endpoint="churn",
    version="churn:2",
    reason="Alert abc (drift): `age` moved.",
    window=(NOW - timedelta(days=7), NOW),
)


@pytest.fixture
def hook():
    with receiver() as made:
        yield made


class World:
    def __init__(self, state: Path, policy=LOOPBACK):
        self.now = NOW
        self.state = state
        self.database = Database.open(sqlite_url(state))
        self.secrets = secrets = Secrets(Sealer(state / "keys"), {"CI_TOKEN": "t0ken"})
        self.sender = Sender(
            self.database,
            environment="dev",
            secrets=secrets,
            policy=policy,
            clock=lambda: self.now,
            carrier=Courier(state / "commands"),
        )
        self.channels = Channels(
            self.database,
            environment="dev",
            secrets=secrets,
            rules=SecretRules(allowed=("env:CI_*",)),
            sender=self.sender,
        )

    def add(self, url, name="ops", **fields):
        return self.channels.add(ChannelRequest(name=name, url=url, **fields), ADA)

    def put(self, message=WANTED, channel="ops"):
        with self.database.transaction() as tx:
            put_message(tx, channel, message, self.now)

    def send_for(self, steps=1):
        """Sends for a while; how many attempts there were."""
        tried = 0
        for _ in range(steps):
            tried += self.sender.deliver()
            self.now += timedelta(seconds=LONGEST_PAUSE_S)
        return tried


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.database.close()


def test_a_webhook_that_fails_twice_gets_each_message_once_and_signed(world, hook):
    secret = world.add(hook.url).secret
    hook.answers = [500, None, 200]
    world.put()
    world.put()
    assert world.send_for(3) == 4
    assert len(hook.heard) == 4
    assert len(hook.taken) == 2
    for one in hook.taken.values():
        header = one.headers[SIGNATURE.lower()]
        at_s = int(header.split(",")[0].removeprefix("t="))
        assert is_signed(header, secret, one.body, now_s=at_s)
        assert one.document["id"] == one.key
        assert one.document["reason"] == WANTED.reason
    (channel,) = world.channels.list()
    assert (channel.sent, channel.waiting, channel.dead) == (2, 0, 0)


def test_a_slow_webhook_is_given_up_for_now_and_holds_up_nobody_longer(hook):
    hook.hold.clear()
    parcel = Parcel(
        way=Way.WEBHOOK, url=hook.url, policy=LOOPBACK, headers={"idempotency-key": "1"}
    )
    with pytest.raises(ServerUnreachable, match="within 3 s"):
        Courier(Path("none"), timeout_s=3).carry(parcel)
    assert LEASE_S > 2 * 30


def test_no_channel_waits_for_one_that_hangs(world, hook):
    with receiver() as healthy:
        hook.hold.clear()
        world.add(hook.url)
        world.add(healthy.url, name="team")
        for _ in range(10):
            world.put()
        world.now += timedelta(seconds=1)
        for _ in range(5):
            world.put(channel="team")
        sending = threading.Thread(target=world.sender.deliver)
        sending.start()
        _until(lambda: len(healthy.taken) == 5 and hook.heard, sending)
        world.put(channel="team")
        _until(lambda: len(healthy.taken) == 6, sending)
        assert len(hook.heard) < AT_ONCE, "those that wait have their turn, two by two"
        assert hook.taken == {}
        hook.hold.set()
        sending.join(60)
    assert not sending.is_alive()
    team, ops = sorted(world.channels.list(), key=lambda one: one.waiting + one.sent)
    assert (team.sent, team.waiting) == (6, 0)
    assert ops.sent > 0
    assert (ops.sent + ops.waiting, ops.dead) == (10, 0)


def _until(condition, thread):
    """Waits until it is so, or the thread has ended."""
    while not condition() and thread.is_alive():
        thread.join(0.05)
    assert condition()


def test_control_that_ends_waits_for_no_slow_webhook(world, hook):
    hook.hold.clear()
    world.add(hook.url)
    world.put()
    sending = threading.Thread(target=world.sender.deliver)
    sending.start()
    while not hook.heard:
        sending.join(0.05)
    world.sender.close()
    sending.join(5)
    assert not sending.is_alive()
    (channel,) = world.channels.list()
    assert (channel.sent, channel.waiting) == (0, 1)


def test_an_answer_without_an_end_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                try:
                    while not ended.is_set():
                        connection.sendall(b"1\r\nx\r\n")
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        try:
            carry(Parcel(way=Way.WEBHOOK, url=url, policy=LOOPBACK))
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    ("url", "policy"),
    [
        ("http://127.0.0.1:{port}/", OutboundPolicy(plain=True)),
        ("http://127.0.0.1:{port}/", OutboundPolicy(networks=("127.0.0.0/8",))),
        ("http://169.254.169.254/latest", OutboundPolicy(networks=("0.0.0.0/0",), plain=True)),
    ],
)
def test_a_webhook_leads_nowhere_that_the_policy_does_not_allow(hook, url, policy):
    port = hook.url.split(":")[2].split("/")[0]
    with pytest.raises(InvalidRequest):
        carry(Parcel(way=Way.WEBHOOK, url=url.format(port=port), policy=policy))
    assert hook.heard == []


def test_what_may_not_be_called_is_given_up_at_once_and_says_why(tmp_path, hook):
    world = World(tmp_path, OutboundPolicy())
    world.add(hook.url)
    world.put()
    assert world.send_for(3) == 1
    (channel,) = world.channels.list()
    assert channel.dead == 1
    assert "may not be called" in channel.last[0].fault
    assert "s3cr3t" not in channel.last[0].fault
    world.database.close()


def test_ci_is_asked_in_its_own_words_with_its_token(world, hook):
    template = {"event_type": "retrain", "client_payload": {"why": "{reason}", "data": "{window}"}}
    world.add(hook.url, template=template, token_from=SecretRef(env="CI_TOKEN"))
    world.put()
    world.send_for()
    (one,) = hook.taken.values()
    assert one.headers["authorization"] == "Bearer t0ken"
    assert one.document == {
        "event_type": "retrain",
        "client_payload": {
            "why": WANTED.reason,
            "data": ["2026-02-25T05:06:00Z", "2026-03-04T05:06:00Z"],
        },
    }


def test_the_courier_has_nothing_of_controls_environment(world, hook, monkeypatch):
    """A proxy of the environment would connect for it, wherever it leads."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    world.add(hook.url.replace("http://", "json://"))
    world.channels.test("ops", ADA)
    (heard,) = hook.bare
    assert heard["title"] == "Shipway test message (dev)"


# Apprise


def test_apprise_tells_services_and_is_judged_as_webhooks_are(hook):
    url = hook.url.replace("http://", "json://")
    parcel = Parcel(way=Way.APPRISE, url=url, policy=LOOPBACK, title="FIRING", text="what, since")
    carry(parcel)
    (heard,) = hook.bare
    assert (heard["title"], heard["message"]) == ("FIRING", "what, since")
    with pytest.raises(InvalidRequest, match="not of the public internet"):
        carry(msgspec.structs.replace(parcel, policy=OutboundPolicy()))
    assert len(hook.bare) == 1


@pytest.mark.parametrize(
    ("severity", "event", "tone"),
    [
        (Severity.CRITICAL, Event.SUSTAIN, "failure"),
        (Severity.WARNING, Event.WORSEN, "warning"),
        (Severity.INFO, Event.ESCALATE, "info"),
        (Severity.CRITICAL, Event.CLEAR, "success"),
        (Severity.CRITICAL, Event.EXPIRE, "success"),
    ],
)
def test_services_show_how_bad_it_is_and_that_it_is_over(world, hook, severity, event, tone):
    item = Item(
        alert="a", event=event, at=NOW, rule="error-rate", subject="", severity=severity,
        endpoint="churn", version="churn:2", since=NOW, summary="s", numbers={}, runbook="", command="",
    )  # fmt: skip
    world.add(hook.url.replace("http://", "json://"))
    message = Message(kind=MessageKind.ALERTS, environment="dev", endpoint="churn", items=(item,))
    world.put(message)
    world.send_for()
    world.send_for()
    (heard,) = hook.bare
    assert heard["type"] == tone


def test_what_apprise_says_of_a_failure_holds_no_part_of_the_url(hook):
    url = hook.url.replace("http://", "json://user:hunter22@")
    hook.answers = [500]
    with pytest.raises(ServerUnreachable) as failed:
        carry(Parcel(way=Way.APPRISE, url=url, policy=LOOPBACK, title="t", text="x"))
    for secret in ("s3cr3t", "hunter22"):
        assert secret not in failed.value.message


def test_what_apprise_cannot_read_is_refused_for_good():
    with pytest.raises(InvalidRequest, match="cannot read"):
        carry(Parcel(way=Way.APPRISE, url="nosuch://x", policy=LOOPBACK, text="x"))


@pytest.mark.parametrize("said", ["<!channel>", "<https://a.b|c>", "[c](https://a.b)", "@everyone"])
def test_what_callers_wrote_is_no_markup_of_a_chat(hook, said):
    url = hook.url.replace("http://", "json://")
    carry(Parcel(way=Way.APPRISE, url=url, policy=LOOPBACK, title="t", text=f"new: {said}\nnext"))
    (heard,) = hook.bare
    first, second = heard["message"].split("\n")
    assert said not in first
    assert not {"<", ">"} & set(first)
    assert [c for c in first if c.isalnum()] == [c for c in f"new: {said}" if c.isalnum()]
    assert second == "next"


def test_mail_goes_out_over_smtp():
    text = "FIRING: drift\nWhat: `<b>x</b>` & <a href='https://a.b'>c</a>"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        said: list[bytes] = []
        thread = threading.Thread(target=smtp, args=(listening, said))
        thread.start()
        port = listening.getsockname()[1]
        url = f"mailto://127.0.0.1:{port}?from=shipway@example.com&to=ops@example.com&mode=insecure"
        try:
            carry(Parcel(way=Way.APPRISE, url=url, policy=LOOPBACK, title="FIRING", text=text))
        finally:
            thread.join(20)
    mail = b"".join(said)
    assert b"rcpt to:<ops@example.com>" in mail.lower()
    assert b"Subject: FIRING" in mail
    start, end = mail.lower().index(b"\r\ndata\r\n") + 8, mail.rindex(b"\r\n.\r\n")
    parts = {one.get_content_type(): one for one in message_from_bytes(mail[start:end]).walk()}
    plain, html = (
        parts[kind].get_payload(decode=True).decode() for kind in ("text/plain", "text/html")
    )
    assert plain.splitlines() == text.splitlines()
    assert "drift<br/>What:" in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html
    assert re.search("<[ab][ >]", html) is None


def smtp(listening, said):
    """The least that a mail server says (RFC 5321)."""
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as lines:
        connection.sendall(b"220 ready\r\n")
        for line in lines:
            said.append(line)
            if line.upper().startswith(b"DATA"):
                connection.sendall(b"354 go on\r\n")
                for text in lines:
                    said.append(text)
                    if text == b".\r\n":
                        break
            elif line.upper().startswith(b"QUIT"):
                connection.sendall(b"221 bye\r\n")
                return
            connection.sendall(b"250 ok\r\n")


# Programs


def program(world, text, *, name="retrain", mode=0o700):
    """A program in the state directory: a script that also notes that it began."""
    directory = world.state / "commands"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\necho begun >> begun\n{text}\n")
    path.chmod(mode)
    return directory


def test_a_retraining_request_runs_a_program_with_the_window_and_the_reason(world, monkeypatch):
    monkeypatch.setenv("SHIPWAY_DATABASE_URL", "postgresql://secret")
    directory = program(world, "cat > asked.json; env > environment")
    made = world.add("command://retrain", name="retrain")
    assert (made.kind.value, made.shown, made.secret) == ("command", "command://retrain", "")
    world.put(channel="retrain")
    assert world.sender.deliver() == 1
    asked = msgspec.json.decode((directory / "asked.json").read_bytes())
    assert asked["kind"] == "retrain"
    assert asked["endpoint"] == "churn"
    assert asked["reason"] == WANTED.reason
    assert asked["window"] == ["2026-02-25T05:06:00Z", "2026-03-04T05:06:00Z"]
    assert "secret" not in (directory / "environment").read_text()
    (channel,) = world.channels.list()
    assert (channel.sent, channel.waiting) == (1, 0)


def test_a_program_that_fails_is_run_again_with_the_same_id(world):
    directory = program(
        world,
        'cat >> ids; echo >> ids; test "$(wc -l < begun)" -gt 1 || { echo no disk >&2; exit 3; }',
    )
    world.add("command://retrain", name="retrain")
    world.put(channel="retrain")
    assert world.send_for(2) == 2
    first, second = map(msgspec.json.decode, (directory / "ids").read_text().splitlines())
    assert first["id"] == second["id"]
    (channel,) = world.channels.list()
    assert (channel.sent, channel.waiting) == (1, 0)


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("echo no disk >&2; exit 3", 0o700, "`retrain` ended with 3: no disk"),
        ("exit 1", 0o700, "`retrain` ended with 1: it said nothing"),
        ("exit 0", 0o722, "others may write to"),
        ("exit 0", 0o600, "Permission denied"),
        (None, 0o700, "No such file or directory"),
    ],
)
def test_why_a_program_did_not_take_a_message_is_told(world, text, mode, reason):
    if text is not None:
        program(world, text, mode=mode)
    world.add("command://retrain", name="retrain")
    with pytest.raises(ServerUnreachable, match=reason):
        world.channels.test("retrain", ADA)
    begun = world.state / "commands" / "begun"
    assert begun.exists() == ("ended" in reason)


def test_a_program_that_does_not_end_is_ended_with_what_it_started(world, monkeypatch):
    monkeypatch.setattr(commanding, "TIMEOUT_S", 1.0)
    directory = program(world, "sleep 60 & echo $! > child; wait")
    assert "did not end within 1 s" in commanding.ran(directory / "retrain", b"{}")
    child = int((directory / "child").read_text())
    end = time.monotonic() + 10
    while runs(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not runs(child)


def runs(pid):
    """Whether a process does anything still."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_full_disk_is_named_and_nothing_is_run(world, monkeypatch):
    directory = program(world, "exit 0")
    monkeypatch.setattr(commanding, "TemporaryFile", partial(Path("/dev/full").open, "wb"))
    assert "No space left on device" in commanding.ran(directory / "retrain", b"{}" * 9000)
    assert not (directory / "begun").exists()


@pytest.mark.parametrize(
    "url", ["command://other", "command://../keys", "command:///bin/sh", "command://"]
)
def test_a_channel_runs_no_program_but_that_of_its_name(world, url):
    with pytest.raises(InvalidSpec, match="another program than its own"):
        world.add(url, name="retrain")
    with pytest.raises(InvalidSpec, match="for webhooks"):
        world.add("command://retrain", name="retrain", template={})


def test_no_reference_decides_which_program_runs(world, tmp_path):
    program(world, "exit 0")
    url = tmp_path / "url"
    url.write_text("command://retrain")
    world.channels = Channels(
        world.database,
        environment="dev",
        secrets=world.secrets,
        rules=SecretRules(allowed=(f"file:{tmp_path}/*",)),
        sender=world.sender,
    )
    world.add("", name="retrain", url_from=SecretRef(file=str(url)))
    url.write_text("command:///bin/false")
    world.put(channel="retrain")
    assert world.sender.deliver() == 1
    assert (world.state / "commands" / "begun").exists()
    (channel,) = world.channels.list()
    assert (channel.sent, channel.waiting) == (1, 0)


# What is sealed


def test_only_the_key_of_the_state_directory_opens_what_it_sealed(tmp_path):
    sealer = Sealer(tmp_path / "a")
    sealed = sealer.seal("slack://token")
    assert "token" not in sealed
    assert Sealer(tmp_path / "a").open(sealed) == "slack://token"
    assert Sealer(tmp_path / "a").derived("x") == sealer.derived("x") != sealer.derived("y")
    with pytest.raises(SecretUnavailable):
        Sealer(tmp_path / "b").open(sealed)
    assert (tmp_path / "a" / "sealing.key").stat().st_mode & 0o077 == 0
    (tmp_path / "b" / "sealing.key").write_text("broken")
    with pytest.raises(StateUnusable):
        Sealer(tmp_path / "b")


class Moved(BaseHTTPRequestHandler):
    """A service that has moved, and shows its sign-in page to whoever looks."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(302)
        self.send_header("location", "/elsewhere")
        self.end_headers()

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        return


def test_a_redirect_that_loses_the_message_is_no_delivery():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moved)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        reason, is_final = posted(url, {}, b"{}", LOOPBACK)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert "redirects" in reason
    assert not is_final


def test_a_clock_that_is_set_back_keeps_no_message(world, hook):
    world.add(hook.url)
    hook.answers = [500, 200]
    world.put()
    assert world.sender.deliver() == 1
    world.now -= timedelta(days=1)
    assert world.sender.deliver() == 1
    assert len(hook.taken) == 1
