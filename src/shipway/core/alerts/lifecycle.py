"""An alert: where it stands, and what can happen to it.

             sustained              acknowledge
   pending ────────────► firing ───────────────► acknowledged
      │ ▲                 │  ▲                     │   │
      │ │ raise           │  └───────worsen────────┘   │
      ▼ │    clear, expire, resolve                    │
   resolved ◄─────────────┴────────────────────────────┘

What happens is decided in `deciding`; `moved` applies it, by the table alone.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

import msgspec

from shipway.core.errors import ConflictError
from shipway.core.signals import Severity

_replace = msgspec.structs.replace

RANK: Mapping[Severity, int] = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
"""How severities compare."""


class Phase(StrEnum):
    """Where an alert stands."""

    PENDING = "pending"
    """Its rule holds, and not yet for long enough."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    """Somebody has taken it on; it still fires."""

    RESOLVED = "resolved"


class Event(StrEnum):
    """What can happen to an alert."""

    RAISE = "raise"
    """The rule holds again after the alert was resolved."""

    SUSTAIN = "sustain"
    """The rule has held for long enough."""

    WORSEN = "worsen"
    """It is more severe than it was."""

    ESCALATE = "escalate"
    """Nobody acknowledged it in time."""

    ACKNOWLEDGE = "acknowledge"
    CLEAR = "clear"
    """The rule has not held for long enough."""

    EXPIRE = "expire"
    """Nothing was measured for too long, or nobody looks any more."""

    RESOLVE = "resolve"
    """A person ended it; it comes back with the next evidence."""


_P, _E = Phase, Event
TRANSITIONS: Mapping[tuple[Phase, Event], Phase] = {
    (_P.PENDING, _E.SUSTAIN): _P.FIRING,
    (_P.PENDING, _E.CLEAR): _P.RESOLVED,
    (_P.PENDING, _E.EXPIRE): _P.RESOLVED,
    (_P.PENDING, _E.RESOLVE): _P.RESOLVED,
    (_P.FIRING, _E.WORSEN): _P.FIRING,
    (_P.FIRING, _E.ESCALATE): _P.FIRING,
    (_P.FIRING, _E.ACKNOWLEDGE): _P.ACKNOWLEDGED,
    (_P.FIRING, _E.CLEAR): _P.RESOLVED,
    (_P.FIRING, _E.EXPIRE): _P.RESOLVED,
    (_P.FIRING, _E.RESOLVE): _P.RESOLVED,
    (_P.ACKNOWLEDGED, _E.WORSEN): _P.FIRING,
    (_P.ACKNOWLEDGED, _E.CLEAR): _P.RESOLVED,
    (_P.ACKNOWLEDGED, _E.EXPIRE): _P.RESOLVED,
    (_P.ACKNOWLEDGED, _E.RESOLVE): _P.RESOLVED,
    (_P.RESOLVED, _E.RAISE): _P.PENDING,
}
"""Every change of phase that there is; whatever is not here is refused."""

FIRES = frozenset({Phase.FIRING, Phase.ACKNOWLEDGED})


class Key(msgspec.Struct, frozen=True, order=True):
    """What an alert is about; there is one alert of a key at a time."""

    environment: str
    endpoint: str
    rule: str
    subject: str


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert, from its first evidence to its end.

    `since` is when the trouble began, `phase_at` when the present phase did. `raised_at` is the time of
    the evidence that raised it, `heard_at` that of the last one, `clear_since` that of the first one since which the rule does not hold. `firings`
    counts how often it fired, `fired_at` is the last time. `owed` is what people are still to be told,
    `told_at` when they were told that it fires; None when they do not know. `told` are the channels that
    know of it and not of its end; None in rows of releases that did not keep them. `escalations` counts the
    channels that were told because nobody acknowledged it. Without evidence for `stale_s` it expires.
    """

    id: str
    environment: str
    endpoint: str
    rule: str
    subject: str
    severity: Severity
    phase: Phase
    since: datetime
    phase_at: datetime
    raised_at: datetime
    heard_at: datetime
    clear_since: datetime | None = None
    firings: int = 0
    fired_at: datetime | None = None
    owed: Event | None = None
    told_at: datetime | None = None
    told: tuple[str, ...] | None = None
    escalations: int = 0
    acknowledged_by: str = ""
    version: str = ""
    summary: str = ""
    numbers: dict[str, float] = {}
    report: str = ""
    next_step: str = ""
    runbook: str = ""
    stale_s: float = 3600.0

    @property
    def key(self) -> Key:
        """What it is about."""
        return Key(self.environment, self.endpoint, self.rule, self.subject)

    @property
    def fires(self) -> bool:
        """Whether it fires, acknowledged or not."""
        return self.phase in FIRES


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an alert; `by` is empty for what no person did."""

    alert: str
    at: datetime
    event: str
    message: str = ""
    by: str = ""


def alert_id(key: Key, began_at: datetime) -> str:
    """The id of the alert of that key that began then: the same one for everybody who finds it."""
    told = msgspec.json.encode((key.environment, key.endpoint, key.rule, key.subject, began_at))
    return b32encode(sha256(told).digest())[:10].decode().lower()


def moved(alert: Alert, event: Event, now: datetime, *, by: str = "") -> Alert:
    """The alert once that has happened.

    Raises:
        ConflictError: it cannot happen in its phase.
    """
    phase = TRANSITIONS.get((alert.phase, event))
    if phase is None:
        raise ConflictError(
            f"Alert `{alert.id}` is {alert.phase.value}: there is nothing to {event.value}.",
            next_step=f"See `shipway alerts show {alert.id}`.",
            phase=alert.phase.value,
        )
    after = alert if phase is alert.phase else _replace(alert, phase=phase, phase_at=now)
    match event:
        case Event.SUSTAIN:
            return _replace(after, firings=alert.firings + 1, fired_at=now, owed=event)
        case Event.WORSEN:
            # Who does not know of it yet is told that it fires.
            return _replace(after, acknowledged_by="", owed=alert.owed or event)
        case Event.ESCALATE:
            return _replace(after, escalations=alert.escalations + 1)
        case Event.ACKNOWLEDGE:
            return _replace(after, acknowledged_by=by)
        case Event.CLEAR | Event.EXPIRE | Event.RESOLVE:
            is_known = alert.told_at is not None if alert.told is None else bool(alert.told)
            owed = event if is_known else None
            return _replace(after, owed=owed, told_at=None, acknowledged_by="")
        case Event.RAISE:
            return _replace(after, clear_since=None, escalations=0, since=now)
