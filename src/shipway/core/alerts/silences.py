"""Silences: alerts that nobody is told of for a while. They fire, act and resolve as ever."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec

from shipway.core.alerts.lifecycle import Alert


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts are silenced, until when, why and by whom.

    `endpoint` is a name; empty for the server's own alerts. `rule` and `subject` are names, or patterns
    in which `*` stands for anything.
    """

    id: str
    environment: str
    endpoint: str
    rule: str = "*"
    subject: str = "*"
    until: datetime
    reason: str
    by: str
    at: datetime

    def covers(self, alert: Alert, now: datetime) -> bool:
        """Whether nobody is told of the alert now."""
        return (
            now < self.until
            and (self.environment, self.endpoint) == (alert.environment, alert.endpoint)
            and fnmatchcase(alert.rule, self.rule)
            and fnmatchcase(alert.subject, self.subject)
        )


def silence_of(alert: Alert, silences: Iterable[Silence], now: datetime) -> Silence | None:
    """The silence that covers an alert now; None when none does."""
    return next((one for one in silences if one.covers(alert, now)), None)
