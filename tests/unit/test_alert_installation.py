"""A disk that fills up and a certificate that ends are told early, and what is well is told too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shipway.core.alerts.installation import certificate_signals, disk_signal
from shipway.core.health import CertificateFacts, DiskFacts
from shipway.core.signals import Severity

NOW = datetime(2026, 5, 6, 7, tzinfo=UTC)
GB = 10**9
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


@pytest.mark.parametrize(
    ("free", "total", "free_files", "expected"),
    [
        (10.1, 100, 500, None),
        (9.9, 100, 500, WARNING),
        (3.1, 100, 500, WARNING),
        (2.9, 100, 500, CRITICAL),
        (0, 100, 500, CRITICAL),
        (80, 1000, 500, None),  # 8 % of a large disk is still much
        (40, 1000, 500, WARNING),
        (29, 1000, 500, WARNING),
        (12, 1000, 500, CRITICAL),
        (50, 100, 90, WARNING),
        (50, 100, 20, CRITICAL),
    ],
)
def test_a_disk_is_told_of_before_it_is_full(free, total, free_files, expected):
    facts = DiskFacts(
        purpose="The state directory", path="/x", free_bytes=int(free * GB), total_bytes=total * GB,
        free_files=free_files, total_files=1000,
    )  # fmt: skip
    signal = disk_signal("dev", facts, NOW)
    assert (signal.endpoint, signal.rule, signal.subject) == ("", "disk-space", "")
    assert (signal.severity if signal.is_firing else None) is expected
    assert signal.numbers["free_gb"] == pytest.approx(free)
    assert signal.numbers["free_pct"] == pytest.approx(100 * free / total)
    assert bool(signal.next_step) is signal.is_firing


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"expires_at": NOW + timedelta(days=15)}, None),
        ({"expires_at": NOW + timedelta(days=13)}, WARNING),
        ({"expires_at": NOW + timedelta(days=2, hours=1)}, WARNING),
        ({"expires_at": NOW + timedelta(days=1, hours=23)}, CRITICAL),
        ({"expires_at": NOW - timedelta(days=1)}, CRITICAL),
        ({"expires_at": NOW + timedelta(days=90), "key_matches": False}, CRITICAL),
        ({"fault": "no PEM"}, CRITICAL),
    ],
)
def test_a_certificate_is_told_of_before_it_ends(fields, expected):
    found = {"server": CertificateFacts(path="/c", **fields), "client": None}
    signal, other = certificate_signals("dev", found, NOW)
    assert (signal.endpoint, signal.rule, signal.subject) == ("", "certificate-expiry", "server")
    assert (signal.severity if signal.is_firing else None) is expected
    assert "`/c`" in signal.summary
    # One that is not there any more ends its alert.
    assert (other.subject, other.is_firing) == ("client", False)
