"""The installation's own alerts, from real certificates and disks to an alert that ends."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from shipway.control.alerting import installation as module
from shipway.control.alerting.installation import Installation
from shipway.control.alerts import Alerts
from shipway.core.alerts.lifecycle import Phase
from shipway.core.health import DiskFacts
from shipway.core.signals import Severity
from shipway.store.disks import disk_facts
from shipway.store.sql.database import Database, sqlite_url
from shipway.testing.certificates import Authority
from shipway.tls.files import TlsFiles

DAY = timedelta(days=1)
ROOM = DiskFacts(purpose="The state directory", path="/x", free_bytes=90, total_bytes=100)
FULL = DiskFacts(purpose="The state directory", path="/x", free_bytes=1, total_bytes=100)


@pytest.fixture
def alerts(tmp_path):
    database = Database.open(sqlite_url(tmp_path))
    yield Alerts(database, environment="dev", acting=None)
    database.close()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture(autouse=True)
def disk(monkeypatch):
    """What is left on the disk; this machine's own is no part of a test."""
    found = [ROOM]
    monkeypatch.setattr(module, "disk_facts", lambda purpose, path: found[0])
    return found


def look(alerts, installation, now):
    """The alerts that are open after a look, by subject."""
    alerts.observe(installation.signals(now), now)
    return {one.subject: one for one in alerts.newest()}


def test_a_certificate_is_told_of_gets_worse_and_is_forgotten_once_it_is_renewed(
    tmp_path, alerts, authority
):
    issued = authority.issue("server", lifetime=20 * DAY)
    begin, end = issued.expires_at - 20 * DAY, issued.expires_at
    files = authority.serving()
    installation = Installation(environment="dev", state_dir=tmp_path, tls=files)
    assert look(alerts, installation, begin + DAY) == {}
    (alert,) = look(alerts, installation, end - 13 * DAY).values()
    assert (alert.rule, alert.subject, alert.phase) == (
        "certificate-expiry",
        "server",
        Phase.FIRING,
    )
    assert (alert.endpoint, alert.severity) == ("", Severity.WARNING)
    assert alert.numbers["days_left"] == pytest.approx(13)
    assert str(files.cert) in alert.summary
    assert alert.runbook == "docs/runbooks/certificate-expiry.md"
    worse = look(alerts, installation, end - DAY)["server"]
    assert (worse.id, worse.severity) == (alert.id, Severity.CRITICAL)
    authority.issue("server", lifetime=90 * DAY, at=end - DAY)
    assert look(alerts, installation, end - DAY + timedelta(minutes=1)) == {}


def test_of_each_use_its_own_certificate_is_looked_at(tmp_path, alerts, authority):
    authority.issue("server", lifetime=30 * DAY)
    end = authority.issue("client", lifetime=5 * DAY).expires_at
    authority.pair("server").key.write_bytes(authority.pair("client").key.read_bytes())
    server, client = authority.serving(), authority.calling("client")
    tls = TlsFiles(
        cert=server.cert,
        key=server.key,
        ca=authority.ca,
        client_ca=authority.ca,
        client_cert=client.client_cert,
        client_key=client.client_key,
    )
    installation = Installation(environment="dev", state_dir=tmp_path, tls=tls)
    found = look(alerts, installation, end - 4 * DAY)
    assert {use: one.severity for use, one in found.items()} == {
        "server": Severity.CRITICAL,  # the key is another's
        "client": Severity.WARNING,
    }
    authority.ca.unlink()
    found = look(alerts, installation, end - 3 * DAY)
    assert set(found) == {"server", "client", "ca"}  # one file, and one alert
    assert found["ca"].severity is Severity.CRITICAL
    # Started again without TLS.
    plain = Installation(environment="dev", state_dir=tmp_path, tls=TlsFiles())
    assert look(alerts, plain, end - 2 * DAY) == {}


def test_a_disk_that_fills_up_is_told_of_until_there_is_room_for_a_while(
    tmp_path, alerts, authority, disk
):
    installation = Installation(environment="dev", state_dir=tmp_path, tls=TlsFiles())
    now = authority.issue("server").expires_at
    assert look(alerts, installation, now) == {}
    disk[0] = FULL
    (alert,) = look(alerts, installation, now + timedelta(minutes=1)).values()
    assert (alert.rule, alert.severity, alert.phase) == (
        "disk-space",
        Severity.CRITICAL,
        Phase.FIRING,
    )
    disk[0] = ROOM
    assert look(alerts, installation, now + timedelta(minutes=2))
    assert look(alerts, installation, now + timedelta(minutes=13)) == {}


def test_the_room_on_a_disk_is_what_this_user_may_take(tmp_path):
    found, facts = shutil.disk_usage(tmp_path), disk_facts("The state directory", tmp_path)
    assert facts.total_bytes == found.total
    assert facts.free_bytes == pytest.approx(found.free, rel=0.05)
