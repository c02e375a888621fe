"""A message on its way to a channel: when it is tried, when again, and when it is given up."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from shipway.core.alerts.lifecycle import RANK
from shipway.core.alerts.messages import Message
from shipway.core.signals import Severity

_replace = msgspec.structs.replace

GROUP_WAIT_S = 10.0
"""Alerts of an endpoint that come within this go in one message."""

CRITICAL_WAIT_S = 2.0
"""A critical one waits no longer than this for company."""

LEASE_S = 120.0
"""Longer than any attempt: whoever holds a message for so long has died."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0
MOST_ATTEMPTS = 16
"""Over about seven hours; then the message is dead, and shown with its channel."""


class Sending(StrEnum):
    """Where a message stands."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one channel. `id` is told to the receiver, the same at every attempt.

    `leased_until`: somebody is sending it until then, or has died. `fault` is what the last attempt
    met. `ended_at` is when it was sent or given up.
    """

    id: str
    environment: str
    channel: str
    endpoint: str
    message: Message
    due_at: datetime
    created_at: datetime
    state: Sending = Sending.WAITING
    leased_until: datetime | None = None
    attempts: int = 0
    fault: str = ""
    ended_at: datetime | None = None


def wait_s(severity: Severity) -> float:
    """For how long a message waits for company."""
    return CRITICAL_WAIT_S if RANK[severity] >= RANK[Severity.CRITICAL] else GROUP_WAIT_S


def joined(waiting: Notification, more: Message, now: datetime) -> Notification:
    """The message with more in it, sent no later than that alone would be."""
    items = (*waiting.message.items, *more.items)
    due_at = min(waiting.due_at, now + timedelta(seconds=wait_s(more.severity)))
    return _replace(waiting, message=_replace(waiting.message, items=items), due_at=due_at)


def leased(one: Notification, now: datetime) -> Notification:
    """The message while somebody tries to send it."""
    return _replace(one, leased_until=now + timedelta(seconds=LEASE_S), attempts=one.attempts + 1)


def sent(one: Notification, now: datetime) -> Notification:
    """The message once its receiver took it."""
    return _replace(one, state=Sending.SENT, leased_until=None, fault="", ended_at=now)


def failed(one: Notification, fault: str, now: datetime, *, for_good: bool = False) -> Notification:
    """The message after an attempt failed: tried again later, or given up."""
    if for_good or one.attempts >= MOST_ATTEMPTS:
        return _replace(one, state=Sending.DEAD, leased_until=None, fault=fault, ended_at=now)
    due_at = now + timedelta(seconds=pause_s(one.attempts))
    return _replace(one, leased_until=None, fault=fault, due_at=due_at)


def pause_s(attempts: int) -> float:
    """Seconds before the next attempt after so many: 5, 10, 20, 40 … at most 3600.

    >>> [pause_s(n) for n in (1, 2, 3, 12)]
    [5.0, 10.0, 20.0, 3600.0]
    """
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 16))
