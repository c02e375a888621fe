"""Puts messages where the sender finds them, in the transaction of what they tell."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import uuid4

from shipway.core.alerts.deciding import Notice
from shipway.core.alerts.messages import Item, Message, MessageKind
from shipway.core.alerts.sending import Notification, joined, wait_s
from shipway.store.sql.database import Transaction


def put_notice(tx: Transaction, notice: Notice, items: Iterable[Item], now: datetime) -> None:
    """Lets the notice's channels be told; together with what waits for them of the same endpoint."""
    message = Message(
        kind=MessageKind.ALERTS,
        environment=notice.alert.environment,
        endpoint=notice.alert.endpoint,
        items=tuple(items),
    )
    for channel in notice.channels:
        put_message(tx, channel, message, now)


def put_message(tx: Transaction, channel: str, message: Message, now: datetime) -> None:
    """Lets a channel be told something."""
    waiting = tx.notifications.open(message.environment, channel, message.endpoint)
    if waiting is not None and waiting.message.kind is message.kind is MessageKind.ALERTS:
        tx.notifications.put(joined(waiting, message, now))
        return
    tx.notifications.put(notification(channel, message, now))


def notification(channel: str, message: Message, now: datetime) -> Notification:
    """A new message to a channel; alerts wait a moment for others."""
    wait = wait_s(message.severity) if message.kind is MessageKind.ALERTS else 0.0
    return Notification(
        id=uuid4().hex,
        environment=message.environment,
        channel=channel,
        endpoint=message.endpoint,
        message=message,
        due_at=now + timedelta(seconds=wait),
        created_at=now,
    )
