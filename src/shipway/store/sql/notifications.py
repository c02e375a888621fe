"""Channels, and the messages on their way to them, as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.core.alerts.channels import Channel
from shipway.core.alerts.messages import Message
from shipway.core.alerts.sending import (
    LEASE_S,
    LONGEST_PAUSE_S,
    Notification,
    Sending,
    leased,
)
from shipway.store.sql.tables import channels, notifications

_channel = msgspec.json.Decoder(Channel)


class ChannelRows:
    """The channels of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, environment: str, name: str) -> Channel | None:
        """One channel; None when there is none of that name."""
        text = self._connection.scalar(sa.select(channels.c.channel).where(_is(environment, name)))
        return None if text is None else _channel.decode(text)

    def list(self, environment: str) -> list[Channel]:
        """All channels, in the order of names."""
        mine = channels.c.environment == environment
        query = sa.select(channels.c.channel).where(mine).order_by(channels.c.name)
        return [_channel.decode(text) for text in self._connection.scalars(query)]

    def put(self, channel: Channel) -> None:
        """Keeps a channel in place of the one of its name."""
        self.remove(channel.environment, channel.name)
        row = {
            "environment": channel.environment,
            "name": channel.name,
            "channel": msgspec.json.encode(channel).decode(),
        }
        self._connection.execute(sa.insert(channels).values(row))

    def remove(self, environment: str, name: str) -> None:
        """Forgets a channel; nothing when there is none."""
        self._connection.execute(sa.delete(channels).where(_is(environment, name)))


class NotificationRows:
    """The messages of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def open(self, environment: str, channel: str, endpoint: str) -> Notification | None:
        """The message that still waits for company, to a channel and about an endpoint; None without one."""
        mine = (
            (notifications.c.environment == environment)
            & (notifications.c.channel == channel)
            & (notifications.c.endpoint == endpoint)
            & (notifications.c.state == Sending.WAITING.value)
            & (notifications.c.attempts == 0)
        )
        query = sa.select(notifications).where(mine).order_by(notifications.c.created_at.desc())
        return next(map(_notification, self._connection.execute(query).mappings()), None)

    def due(
        self,
        environment: str,
        *,
        now: datetime,
        limit: int,
        limit_of_one: int,
        busy: Sequence[str] = (),
    ) -> list[Notification]:
        """Takes messages that are to be sent now, the longest due first; each is the caller's until its lease ends.

        To one channel `limit_of_one` at most, with those to it in `busy`.
        """
        # A lease or a time later than any that could be given now was given by a clock that was wrong.
        lease, due = notifications.c.leased_until, notifications.c.due_at
        longest = now + timedelta(seconds=LONGEST_PAUSE_S)
        is_free = lease.is_(None) | (lease <= now) | (lease > now + timedelta(seconds=LEASE_S))
        is_due = (
            (notifications.c.environment == environment)
            & (notifications.c.state == Sending.WAITING.value)
            & ((due <= now) | (due > longest))
            & is_free
        )
        wanted = sa.select(notifications).order_by(due, notifications.c.id)
        taken: list[Notification] = []
        under_way = Counter(busy)
        while len(taken) < limit:
            full = [channel for channel, count in under_way.items() if count >= limit_of_one]
            others = notifications.c.channel.not_in(full) & notifications.c.id.not_in(
                [one.id for one in taken]
            )
            query = wanted.where(is_due & others).limit(limit - len(taken))
            found = [_notification(row) for row in self._connection.execute(query).mappings()]
            if not found:
                break
            for one in found:
                if under_way[one.channel] < limit_of_one:
                    under_way[one.channel] += 1
                    taken.append(leased(one, now))
        for one in taken:
            self.put(one)
        return taken

    def put(self, one: Notification) -> None:
        """Keeps a message in place of what it was."""
        row = msgspec.structs.asdict(one) | {
            "state": one.state.value,
            "message": msgspec.json.encode(one.message).decode(),
        }
        mine = notifications.c.id == one.id
        if not self._connection.execute(sa.update(notifications).where(mine).values(row)).rowcount:
            self._connection.execute(sa.insert(notifications).values(row))

    def settle(self, one: Notification) -> bool:
        """Keeps what an attempt came to; False when somebody else has taken the message over since."""
        row = {
            "state": one.state.value,
            "due_at": one.due_at,
            "leased_until": None,
            "fault": one.fault,
            "ended_at": one.ended_at,
        }
        mine = (
            (notifications.c.id == one.id)
            & (notifications.c.attempts == one.attempts)
            & (notifications.c.state == Sending.WAITING.value)
        )
        change = sa.update(notifications).where(mine).values(row)
        return bool(self._connection.execute(change).rowcount)

    def of_channel(self, environment: str, channel: str, *, limit: int) -> list[Notification]:
        """The newest messages to a channel, newest first."""
        mine = (notifications.c.environment == environment) & (notifications.c.channel == channel)
        newest = (notifications.c.created_at.desc(), notifications.c.id)
        query = sa.select(notifications).where(mine).order_by(*newest).limit(limit)
        return [_notification(row) for row in self._connection.execute(query).mappings()]

    def counts(self, environment: str) -> dict[tuple[str, Sending], int]:
        """How many messages stand where, by channel."""
        by = (notifications.c.channel, notifications.c.state)
        query = sa.select(*by, sa.func.count()).where(notifications.c.environment == environment)
        rows = self._connection.execute(query.group_by(*by))
        return {(channel, Sending(state)): int(count) for channel, state, count in rows}

    def forget(self, environment: str, *, before: datetime) -> None:
        """Removes messages that were sent or given up before then."""
        mine = (notifications.c.environment == environment) & (notifications.c.ended_at < before)
        self._connection.execute(sa.delete(notifications).where(mine))


def _is(environment: str, name: str) -> sa.ColumnElement[bool]:
    return (channels.c.environment == environment) & (channels.c.name == name)


def _notification(row: Any) -> Notification:
    message = msgspec.json.decode(row["message"], type=Message)
    return Notification(**{**row, "message": message, "state": Sending(row["state"])})
