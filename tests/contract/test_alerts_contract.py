"""Alerts, their messages and what is done, on every database: two controls at once, and killed in the middle."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import msgspec
import pytest
import sqlalchemy as sa

from shipway.control.alerting.channels import ChannelRequest, Channels
from shipway.control.alerting.courier import Courier
from shipway.control.alerting.sending import Secrets, Sender
from shipway.control.alerting.silencing import SilenceRequest, Silences
from shipway.control.alerts import ACTOR, Alerts
from shipway.control.changes import Request
from shipway.core.addresses import OutboundPolicy
from shipway.core.alerts.lifecycle import Phase
from shipway.core.alerts.plan import AlertPlan, Deed, Mode, Notify, Override, Reaction
from shipway.core.alerts.rules import Threshold
from shipway.core.alerts.sending import CRITICAL_WAIT_S, LEASE_S, MOST_ATTEMPTS, Sending
from shipway.core.endpoints import EndpointSpec, EndpointState
from shipway.core.endpoints import Phase as EndpointPhase
from shipway.core.errors import ConflictError, InvalidSpec, ServerUnreachable, StoreUnavailable
from shipway.core.secrets import SecretRef, SecretRules
from shipway.core.signals import Severity, Signal
from shipway.core.versions import VersionRef
from shipway.store.sealing import Sealer
from shipway.store.sql.alerts import AlertRows
from shipway.store.sql.database import Database
from shipway.testing.webhooks import receiver

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
LOOPBACK = OutboundPolicy(networks=("127.0.0.0/8",), plain=True)
ADA = Request(actor="ada", now=NOW)
DO = AlertPlan(
    actions=(Reaction(when="error-rate", do=Deed.ROLLBACK, mode=Mode.DO),),
)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


class Acting:
    """What was ordered; the order fails, or ends control, where a test wants that."""

    def __init__(self):
        self.done = []
        self.fault = None

    def carry_out(self, order, request):
        if self.fault is not None:
            raise self.fault
        self.done.append((order.reaction.do, request.actor, request.reason, request.dry_run))
        return "churn:1 serves again"


class Carrying:
    """What was carried; it is not taken where a test wants that."""

    def __init__(self):
        self.parcels = []
        self.fault = None

    def carry(self, parcel):
        if self.fault is not None:
            raise self.fault
        self.parcels.append(parcel)

    def close(self):
        pass


class Control:
    """One control's alerts, in a world where carrying is what a test says."""

    def __init__(self, database: Database, keys: Path, *, now=NOW, carrier=None):
        self.now = now
        self.acting = Acting()
        self.carrier = carrier or Carrying()
        secrets = Secrets(Sealer(keys), {"OPS_URL": "https://example.com/from-env"})
        self.alerts = Alerts(database, environment="dev", acting=self.acting)
        self.silences = Silences(database, environment="dev")
        self.sender = Sender(
            database,
            environment="dev",
            secrets=secrets,
            policy=LOOPBACK,
            clock=lambda: self.now,
            carrier=self.carrier,
        )
        self.channels = Channels(
            database,
            environment="dev",
            secrets=secrets,
            rules=SecretRules(allowed=("env:OPS_*",)),
            sender=self.sender,
        )

    @property
    def carried(self):
        return self.carrier.parcels

    def hear(self, seconds, *signals):
        self.now = at(seconds)
        self.alerts.observe(signals, self.now)

    def send(self, seconds):
        self.now = at(seconds)
        return self.sender.deliver()

    def items(self):
        bodies = [msgspec.json.decode(parcel.body) for parcel in self.carried]
        return [[(i["rule"], i["event"]) for i in body["items"]] for body in bodies]


def endpoint(database, name="churn", plan=None):
    spec = EndpointSpec(name=name, model=f"{name}:2", environment="dev", alerts=plan)
    state = EndpointState(
        spec=spec, generation=1, phase=EndpointPhase.LIVE, active=VersionRef(name, 2)
    )
    with database.transaction() as tx:
        before = tx.endpoints.get("dev", name)
        tx.endpoints.put(state, expected_generation=before.generation if before else None)


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def control(database, keys):
    endpoint(database)
    made = Control(database, keys)
    made.channels.add(
        ChannelRequest(name="ops", url="https://example.com/hook", is_default=True), ADA
    )
    return made


def signal(seconds, *, firing=True, severity=Severity.CRITICAL, **fields):
    facts = {"environment": "dev", "endpoint": "churn", "rule": "slow-queue", "summary": "slow"}
    return Signal(**(facts | fields), at=at(seconds), is_firing=firing, severity=severity)


def test_what_fires_is_told_once_and_what_ends_too(control):
    control.hear(0, signal(0))
    control.hear(1, signal(1))
    assert control.send(0.5) == 0, "it waits a moment for company"
    assert control.send(CRITICAL_WAIT_S) == 1
    control.hear(10, signal(10, firing=False))
    assert control.send(10 + CRITICAL_WAIT_S) == 1
    assert control.send(1000) == 0
    assert control.items() == [[("slow-queue", "sustain")], [("slow-queue", "clear")]]


def test_alerts_of_an_endpoint_go_together_and_keep_apart_from_others(control, database):
    endpoint(database, "fraud")
    control.hear(0, signal(0), signal(0, rule="slow-start"), signal(0, endpoint="fraud"))
    control.hear(1, signal(1, rule="slow-end"))
    assert control.send(CRITICAL_WAIT_S) == 2
    rules = sorted(sorted(rule for rule, _ in items) for items in control.items())
    assert rules == [["slow-end", "slow-queue", "slow-start"], ["slow-queue"]]


def test_a_message_says_what_since_when_with_what_numbers_and_what_to_do(control):
    control.hear(0, signal(0, rule="error-rate", numbers={"error_rate": 0.25}, since=at(-60)))
    control.hear(12, signal(12, rule="error-rate", numbers={"error_rate": 0.5}))
    control.send(20)
    (parcel,) = control.carried
    body = msgspec.json.decode(parcel.body)
    assert body["severity"] == "critical"
    assert body["title"] == "FIRING [critical] error-rate on churn (dev)"
    for said in ("0.5", "churn:2", "docs/runbooks/error-rate.md", "shipway rollback churn"):
        assert said in body["text"]
    assert body["items"][0]["since"].startswith("2026-03-04T05:05:00")
    assert parcel.headers["Idempotency-Key"] == body["id"]


def test_what_strangers_wrote_is_kept_and_forges_no_line_of_a_message(control):
    """Names of new categories come from callers: PostgreSQL takes no NUL, and terminals obey escapes."""
    name = "a\x00b\x1b[2J\nCommand: rm -rf /"
    texts = {"summary": f"New categories: `{name}`.", "subject": name, "next_step": name}
    control.hear(0, signal(0, rule="quality", **texts, report=f"/{name}"))
    control.hear(1, signal(1, rule="endless", summary="x" * 1_000_000))
    assert control.send(20) == 1
    endless, quality = sorted(control.alerts.newest(), key=lambda one: one.rule)
    assert quality.phase is Phase.FIRING
    assert r"a\x00b\x1b[2J" in quality.summary
    assert len(endless.summary) == 2000
    text = control.carried[0].text
    assert not {"\x00", "\x1b"} & set(text)
    assert "rm -rf" in text
    assert "\nCommand: rm" not in text


def test_what_people_say_of_alerts_is_kept_whatever_they_write(control):
    wanted = SilenceRequest(
        endpoint="churn", rule="quality\x00", subject="\x00*", for_s=100, reason="a\x00b"
    )
    made = control.silences.add(wanted, ADA)
    assert (made.rule, made.subject, made.reason) == (r"quality\x00", r"\x00*", r"a\x00b")
    control.hear(0, signal(0))
    (alert,) = control.alerts.newest()
    said = msgspec.structs.replace(ADA, reason="a\x00b", now=at(1))
    control.alerts.acknowledge(alert.id, said)
    control.alerts.act(alert.id, Deed.ROLLBACK, said)
    control.alerts.resolve(alert.id, said)
    moments = control.alerts.story(alert.id, at(2)).moments
    assert [one.message for one in moments if one.by and one.event[:4] != "done"] == [r"a\x00b"] * 3


def test_two_controls_that_hear_the_same_tell_and_do_it_once(control, database, keys):
    endpoint(database, plan=AlertPlan(actions=(Reaction(when="critical", do=Deed.ROLLBACK, mode=Mode.DO),)))  # fmt: skip
    other = Control(database, keys)
    for second in range(4):
        together([
            lambda one=one, second=second: one.hear(second, signal(second))
            for one in (control, other)
        ])  # fmt: skip
    together([lambda one=one: one.send(30) for one in (control, other)])
    assert sorted(control.items() + other.items()) == [[("slow-queue", "sustain")]]
    assert len(control.acting.done) + len(other.acting.done) == 1


def together(works):
    barrier = Barrier(len(works))

    def begun(work):
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begun, works))


def test_two_senders_never_hold_the_same_message(control, database, keys):
    for number in range(12):
        endpoint(database, f"e{number}")
    control.hear(0, *(signal(0, endpoint=f"e{n}") for n in range(12)))
    other = Control(database, keys)
    while sum(together([lambda one=one: one.send(30) for one in (control, other)])):
        pass
    assert len(control.carried) + len(other.carried) == 12
    assert len({p.headers["Idempotency-Key"] for p in control.carried + other.carried}) == 12


def test_a_message_that_does_not_arrive_is_tried_again_and_given_up_visibly(control):
    control.hear(0, signal(0))
    control.carrier.fault = ServerUnreachable("It answered with 500.")
    tries, second = 0, 0.0
    while second < 2 * 24 * 3600 and tries < 2 * MOST_ATTEMPTS:
        tries += control.send(second)
        second += 900
    assert tries == MOST_ATTEMPTS
    (shown,) = control.channels.list()
    assert (shown.waiting, shown.dead) == (0, 1)
    assert shown.last[0].fault == "It answered with 500."
    story = control.alerts.story(control.alerts.newest()[0].id, control.now)
    assert [one.state for one in story.messages] == [Sending.DEAD]


def test_who_finishes_after_another_took_over_changes_nothing(control, database):
    control.hear(0, signal(0))
    with database.transaction() as tx:
        (slow,) = tx.notifications.due("dev", now=at(5), limit=1, limit_of_one=1)
    assert control.send(5 + LEASE_S - 1) == 0
    assert control.send(5 + LEASE_S) == 1
    late = msgspec.structs.replace(slow, state=Sending.DEAD)
    with database.transaction() as tx:
        assert not tx.notifications.settle(late)
    assert control.channels.list()[0].sent == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_control_killed_while_sending_loses_no_message(control, database, keys, place, moment):
    with receiver() as hook:
        control.channels.add(ChannelRequest(name="ops", url=hook.url, is_default=True), ADA)
        control.hear(0, signal(0))
        script = Path(__file__).with_name("alerting.py")
        words = [sys.executable, str(script), place.database_url, str(keys), moment]
        killed = subprocess.run(words, check=False, timeout=60)
        assert killed.returncode == 9
        with database.reading() as tx:
            (left,) = tx.notifications.of_channel("dev", "ops", limit=10)
        assert left.state is Sending.WAITING
        other = Control(database, keys, carrier=Courier(keys / "commands"))
        other.now = left.leased_until + timedelta(seconds=1)
        assert other.sender.deliver() == 1
        assert len(hook.heard) == (2 if moment == "after" else 1)
        assert list(hook.taken) == [left.id]


# What is done


def test_what_is_declared_is_done_once_in_its_limit_and_recorded(control, database):
    endpoint(database, plan=DO)
    control.hear(0, signal(0, rule="error-rate"))
    control.hear(11, signal(11, rule="error-rate"))
    ((deed, actor, reason, _),) = control.acting.done
    (alert,) = control.alerts.newest()
    assert (deed, actor) == (Deed.ROLLBACK, ACTOR)
    assert alert.id in reason
    control.hear(20, signal(20, rule="error-rate", subject="another"))
    control.hear(40, signal(40, rule="error-rate", subject="another"))
    assert len(control.acting.done) == 1
    control.hear(3700, signal(3700, rule="error-rate", subject="third"))
    control.hear(3720, signal(3720, rule="error-rate", subject="third"))
    assert len(control.acting.done) == 2
    events = [one.event for one in control.alerts.story(alert.id, control.now).moments]
    assert events[:5] == ["open", "sustain", "do.rollback", "tell", "done.rollback"]


def test_by_default_it_is_only_suggested_and_a_person_does_it(control, database):
    endpoint(database, plan=AlertPlan(actions=(Reaction(when="critical", do=Deed.ROLLBACK),)))
    control.hear(0, signal(0))
    assert control.acting.done == []
    control.send(5)
    (alert,) = control.alerts.newest()
    assert f"shipway alerts act {alert.id} --do rollback" in control.carried[0].text
    control.alerts.act(alert.id, None, msgspec.structs.replace(ADA, dry_run=True, now=at(6)))
    assert control.alerts.act(alert.id, None, msgspec.structs.replace(ADA, now=at(6)))
    assert [(actor, dry) for _, actor, _, dry in control.acting.done] == [
        ("ada", True),
        ("ada", False),
    ]
    events = [one.event for one in control.alerts.story(alert.id, control.now).moments]
    assert events[-2:] == ["do.rollback", "done.rollback"]


def test_nothing_is_done_by_evidence_that_is_old(control, database):
    plan = AlertPlan(actions=(Reaction(when="drift", do=Deed.ROLLBACK, mode=Mode.DO),))
    endpoint(database, plan=plan)
    control.hear(1000, signal(0, rule="drift"))
    (alert,) = control.alerts.newest()
    assert alert.phase is Phase.FIRING
    assert control.acting.done == []


def test_what_cannot_be_done_is_on_the_alerts_record(control, database):
    endpoint(database, plan=AlertPlan(actions=(Reaction(when="critical", do=Deed.FALLBACK, mode=Mode.DO),)))  # fmt: skip
    control.acting.fault = ConflictError("There is no fallback.")
    control.hear(0, signal(0))
    (alert,) = control.alerts.newest()
    last = control.alerts.story(alert.id, control.now).moments[-1]
    assert (last.event, last.message) == ("failed.fallback", "There is no fallback.")
    control.acting.fault = None
    control.hear(900, signal(900, subject="another"))
    control.hear(910, signal(910, subject="third"))
    assert len(control.acting.done) == 1, "what failed is within no limit, what was done is"


def test_what_cannot_be_done_now_is_not_begun(control, database):
    endpoint(database, plan=AlertPlan(actions=(Reaction(when="critical", do=Deed.PAUSE, mode=Mode.DO),)))  # fmt: skip
    control.hear(0, signal(0))
    (alert,) = control.alerts.newest()
    moments = control.alerts.story(alert.id, control.now).moments
    assert [m.message for m in moments if m.event == "skip.pause"] == ["no rollout is under way"]
    assert control.acting.done == []


def test_what_was_done_while_a_clock_ran_ahead_is_within_no_limit_now(control, database):
    endpoint(database, plan=DO)
    year_s = 365 * 86400
    control.hear(year_s, signal(year_s, rule="error-rate"))
    control.hear(year_s + 11, signal(year_s + 11, rule="error-rate"))
    control.hear(0, signal(0, rule="error-rate", subject="another"))
    control.hear(11, signal(11, rule="error-rate", subject="another"))
    assert len(control.acting.done) == 2


def test_what_cannot_be_noted_of_one_endpoint_keeps_nothing_from_being_done_at_another(
    control, database, monkeypatch
):
    for name in ("churn", "fraud"):
        endpoint(database, name, plan=DO)
    control.hear(0, *(signal(0, endpoint=name, rule="error-rate") for name in ("churn", "fraud")))
    noted = AlertRows.note

    def note(rows, alert, moments):
        if alert.endpoint == "churn" and any(one.event == "done.rollback" for one in moments):
            raise StoreUnavailable("The database is away.")
        noted(rows, alert, moments)

    monkeypatch.setattr(AlertRows, "note", note)
    control.hear(11, *(signal(11, endpoint=name, rule="error-rate") for name in ("churn", "fraud")))
    assert len(control.acting.done) == 2
    control.alerts.recover(at(200))
    ends = {
        one.endpoint: control.alerts.story(one.id, control.now).moments[-1].event
        for one in control.alerts.newest()
    }
    assert ends == {"churn": "lost.rollback", "fraud": "done.rollback"}


def test_what_was_begun_when_control_died_is_not_done_again_and_said(control, database):
    endpoint(database, plan=DO)
    control.acting.fault = KeyboardInterrupt()  # not an error that is handled: control ends
    control.hear(0, signal(0, rule="error-rate"))
    with pytest.raises(KeyboardInterrupt):
        control.hear(11, signal(11, rule="error-rate"))
    control.acting.fault = None
    control.hear(12, signal(12, rule="error-rate"))
    control.alerts.recover(at(200))
    control.alerts.recover(at(300))
    (alert,) = control.alerts.newest()
    events = [one.event for one in control.alerts.story(alert.id, control.now).moments]
    assert control.acting.done == []
    assert events.count("lost.rollback") == 1
    control.hear(400, signal(400, rule="error-rate", subject="another"))
    control.hear(411, signal(411, rule="error-rate", subject="another"))
    assert control.acting.done == [], "what may have been done counts"


# People


def test_a_silence_is_kept_audited_and_ends(control, database):
    wanted = SilenceRequest(endpoint="churn", rule="slow-*", for_s=100, reason="we know")
    made = control.silences.add(wanted, ADA)
    control.hear(0, signal(0))
    assert control.send(50) == 0
    assert control.alerts.story(control.alerts.newest()[0].id, at(50)).silence == made
    control.silences.end(made.id, msgspec.structs.replace(ADA, now=at(60)))
    control.hear(60)
    assert control.send(70) == 1
    with database.reading() as tx:
        actions = [event.action for event in tx.audit.newest(limit=3, subject="churn")]
    assert actions == ["alert.unsilence", "alert.silence"]


def test_acknowledging_and_resolving_are_audited(control, database):
    control.hear(0, signal(0))
    (alert,) = control.alerts.newest()
    request = msgspec.structs.replace(ADA, now=at(1), reason="looking")
    assert control.alerts.acknowledge(alert.id, request).acknowledged_by == "ada"
    with pytest.raises(ConflictError):
        control.alerts.acknowledge(alert.id, request)
    assert control.alerts.resolve(alert.id, request).phase is Phase.RESOLVED
    with database.reading() as tx:
        found = tx.audit.newest(limit=2, subject="churn")
    assert [event.action for event in found] == ["alert.resolve", "alert.acknowledge"]
    assert found[0].details["alert"] == alert.id


def test_a_dry_run_of_a_word_on_an_alert_says_what_it_would_be_and_changes_nothing(
    control, database
):
    control.hear(0, signal(0))
    (alert,) = control.alerts.newest()
    dry = msgspec.structs.replace(ADA, now=at(1), dry_run=True)
    before = control.alerts.story(alert.id, at(2))
    assert control.alerts.acknowledge(alert.id, dry).phase is Phase.ACKNOWLEDGED
    assert control.alerts.resolve(alert.id, dry).phase is Phase.RESOLVED
    assert control.alerts.story(alert.id, at(2)) == before
    with database.reading() as tx:
        assert tx.audit.newest(limit=1, subject="churn") == []
    control.alerts.resolve(alert.id, msgspec.structs.replace(dry, dry_run=False))
    with pytest.raises(ConflictError):
        control.alerts.resolve(alert.id, dry)


def test_a_rule_that_is_switched_off_ends_its_alerts_and_raises_none(control, database):
    control.hear(0, signal(0))
    endpoint(database, plan=AlertPlan(rules={"slow-queue": None}))
    control.hear(10, signal(10))
    assert control.alerts.newest() == []


def test_a_declared_severity_counts_for_monitors_too(control, database):
    endpoint(database, plan=AlertPlan(rules={"drift": Override(severity=Severity.INFO)}))
    control.hear(0, signal(0, rule="drift:hourly"))
    assert control.alerts.newest()[0].severity is Severity.INFO


def test_alerts_of_a_rule_that_is_gone_expire_as_that_rule_would(control, database):
    mine = Threshold(name="slow-queue", measure="queue_ms", value=1)
    endpoint(database, plan=AlertPlan(extra=(mine,)))
    control.hear(0, signal(0))
    endpoint(database)
    control.hear(3601)
    assert control.alerts.newest() == []


def test_alerts_of_a_deleted_endpoint_end_and_who_was_told_of_them_learns_it(control, database):
    control.hear(0, signal(0))
    control.send(5)
    with database.transaction() as tx:
        tx.endpoints.delete("dev", "churn")
    control.hear(10)
    assert control.alerts.newest() == []
    control.send(20)
    assert control.items() == [[("slow-queue", "sustain")], [("slow-queue", "expire")]]


def test_a_pager_that_is_told_of_the_worst_only_learns_of_the_end_of_what_got_better(control):
    control.channels.add(
        ChannelRequest(
            name="pager", url="https://example.com/p", is_default=True, at_least=Severity.CRITICAL
        ),
        ADA,
    )
    control.hear(0, signal(0))
    control.send(5)
    control.hear(10, signal(10, severity=Severity.WARNING))
    control.hear(20, signal(20, firing=False))
    control.send(60)
    told = [items for p, items in zip(control.carried, control.items(), strict=True) if p.url.endswith("/p")]  # fmt: skip
    assert told == [[("slow-queue", "sustain")], [("slow-queue", "clear")]]


@pytest.mark.parametrize("days", [0.5, 30])
def test_who_was_told_before_a_long_silence_learns_of_the_end_after_it(control, days):
    control.hear(0, signal(0))
    control.send(5)
    wanted = SilenceRequest(endpoint="churn", for_s=days * 86400, reason="work")
    control.silences.add(wanted, msgspec.structs.replace(ADA, now=at(6)))
    control.hear(10, signal(10, firing=False))
    control.hear(200)
    assert control.alerts.newest() == []
    control.hear(days * 86400)
    assert control.send(days * 86400) == 0
    control.hear(days * 86400 + 10)
    control.send(days * 86400 + 30)
    assert control.items() == [[("slow-queue", "sustain")], [("slow-queue", "clear")]]


def test_signals_of_another_environment_are_none_of_ours(control):
    control.hear(0, signal(0, environment="production"))
    assert control.alerts.newest(is_open=False) == []


# Channels


def test_what_opens_a_channel_is_sealed(control, database):
    with database.reading() as tx:
        channel = tx.channels.get("dev", "ops")
        text = tx.channels._connection.execute(sa.text("select channel from channels")).scalar()
    assert channel.shown == "https://example.com/…"
    assert "/hook" not in text
    with database.reading() as tx:
        details = str([event.details for event in tx.audit.newest(limit=9)])
    assert "/hook" not in details


def test_a_channel_by_reference_is_read_when_it_is_used_and_only_where_allowed(control):
    made = control.channels.add(
        ChannelRequest(name="env", url_from=SecretRef(env="OPS_URL"), is_default=True), ADA
    )
    assert made.shown == "env:OPS_URL"
    control.hear(0, signal(0))
    control.send(10)
    assert {parcel.url for parcel in control.carried} == {
        "https://example.com/hook",
        "https://example.com/from-env",
    }
    for name in ("SHIPWAY_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "OTHER"):
        with pytest.raises(InvalidSpec):
            control.channels.add(ChannelRequest(name="x", url_from=SecretRef(env=name)), ADA)


def test_a_channel_of_another_project_is_not_told(control, database):
    control.channels.add(
        ChannelRequest(name="cards.ops", url="https://example.com/cards", is_default=True), ADA
    )
    endpoint(database, "cards.fraud", plan=AlertPlan(notify=(Notify(channel="ops"),)))
    endpoint(database, "cards.bot")
    control.hear(0, signal(0, endpoint="cards.fraud"), signal(0, endpoint="cards.bot"))
    control.send(10)
    assert [parcel.url for parcel in control.carried] == ["https://example.com/cards"]
    assert control.alerts.rules("cards.fraud").unknown == ("ops",)


def test_messages_of_a_channel_that_is_gone_are_given_up(control, database):
    control.hear(0, signal(0))
    control.channels.remove("ops", ADA)
    assert control.send(10) == 1
    with database.reading() as tx:
        (one,) = tx.notifications.of_channel("dev", "ops", limit=5)
    assert one.state is Sending.DEAD
    assert "no channel `ops`" in one.fault
