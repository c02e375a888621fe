"""What is said of the machine that a server is on: judged as the doctor does, early enough to act."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from shipway.core.alerts.defaults import CERTIFICATE_RULE, DISK_RULE
from shipway.core.health import (
    CertificateFacts,
    Diagnosis,
    DiskBounds,
    DiskFacts,
    Level,
    certificate_diagnosis,
    disk_diagnosis,
)
from shipway.core.signals import Severity, Signal

SPACE = DiskBounds(low_pct=10.0, full_pct=3.0, low_bytes=50 * 1024**3, full_bytes=15 * 1024**3)
"""A tenth of a large disk is still much: it is no news above these bytes."""

URGENT_S = 2 * 24 * 3600.0
"""A certificate that ends within it is critical."""


def disk_signal(environment: str, facts: DiskFacts, now: datetime) -> Signal:
    """What a disk's room says."""
    numbers = {
        "free_gb": facts.free_bytes / 1e9,
        "free_pct": 100 * facts.free_bytes / max(1, facts.total_bytes),
    }
    return _signal(
        environment, DISK_RULE, disk_diagnosis(facts, bounds=SPACE), numbers=numbers, now=now
    )


def certificate_signals(
    environment: str, certificates: Mapping[str, CertificateFacts | None], now: datetime
) -> tuple[Signal, ...]:
    """What certificates say, by what they are for; None where there is none, which is no trouble."""
    return tuple(
        _certificate_signal(environment, use, facts, now) for use, facts in certificates.items()
    )


def _certificate_signal(
    environment: str, use: str, facts: CertificateFacts | None, now: datetime
) -> Signal:
    numbers = {}
    diagnosis = Diagnosis(check="certificates", level=Level.OK, message="There is none.")
    if facts is not None:
        diagnosis = certificate_diagnosis(facts, now=now, urgent_s=URGENT_S)
        if facts.expires_at is not None:
            numbers["days_left"] = (facts.expires_at - now).total_seconds() / 86400
    return _signal(environment, CERTIFICATE_RULE, diagnosis, subject=use, numbers=numbers, now=now)


def _signal(
    environment: str,
    rule: str,
    diagnosis: Diagnosis,
    *,
    subject: str = "",
    numbers: dict[str, float],
    now: datetime,
) -> Signal:
    is_problem = diagnosis.level is Level.PROBLEM
    return Signal(
        environment=environment,
        endpoint="",
        rule=rule,
        subject=subject,
        at=now,
        is_firing=diagnosis.level is not Level.OK,
        severity=Severity.CRITICAL if is_problem else Severity.WARNING,
        summary=diagnosis.message,
        numbers=numbers,
        next_step=diagnosis.next_step,
    )
