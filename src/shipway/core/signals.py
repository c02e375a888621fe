"""What a monitor or a metric says of an endpoint, for the alerts to act on."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How soon somebody should look."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One claim about an endpoint at one time: that something is wrong, or (not `is_firing`) that it is not.

    `rule` names the rule or monitor, `subject` what it is about inside the endpoint (a version, a
    feature, a tenant; empty for all of it). Signals of the same endpoint, rule and subject are about the
    same alert. `numbers` are the evidence, `since` the earliest time at which it held. `report` is
    where more can be read, as a path below `/api/v1`.
    """

    environment: str
    endpoint: str
    rule: str
    at: datetime
    is_firing: bool
    subject: str = ""
    severity: Severity = Severity.WARNING
    summary: str = ""
    numbers: dict[str, float] = {}
    since: datetime | None = None
    report: str = ""
    next_step: str = ""
