"""Alerts, what happened to them, and silences, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.core.alerts.lifecycle import Alert, Key, Moment, Phase
from shipway.core.alerts.silences import Silence
from shipway.store.sql.tables import alert_events, alerts, silences

_alert = msgspec.json.Decoder(Alert)
_FETCH = 100


class AlertRows:
    """The alerts of one transaction, each with what happened to it."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, environment: str, alert_id: str) -> Alert | None:
        """One alert; None when there is none of that id."""
        mine = (alerts.c.environment == environment) & (alerts.c.id == alert_id)
        text = self._connection.scalar(sa.select(alerts.c.alert).where(mine))
        return None if text is None else _alert.decode(text)

    def last(self, environment: str, *, since: datetime, owed_since: datetime) -> dict[Key, Alert]:
        """The last alert of each key: those that have not ended, and those that ended since then.

        Those of whose end people are still to be told are among them if they ended since `owed_since`.
        """
        is_owed = (alerts.c.phase_at >= owed_since) & alerts.c.alert.contains('"owed":"')
        is_open = alerts.c.phase != Phase.RESOLVED.value
        is_last = is_open | (alerts.c.phase_at >= since) | is_owed
        query = sa.select(alerts.c.alert).where(alerts.c.environment == environment, is_last)
        found = self._read(query.order_by(alerts.c.phase_at, alerts.c.id))
        return {alert.key: alert for alert in found}

    def newest(self, environment: str, *, endpoint: str | None, is_open: bool) -> Iterator[Alert]:
        """The newest alerts first, read as they are asked for; with `is_open`, those that have not ended."""
        query = sa.select(alerts.c.alert).where(alerts.c.environment == environment)
        if endpoint is not None:
            query = query.where(alerts.c.endpoint == endpoint)
        if is_open:
            query = query.where(alerts.c.phase != Phase.RESOLVED.value)
        newest = query.order_by(alerts.c.phase_at.desc(), alerts.c.id)
        options = {"stream_results": True, "yield_per": _FETCH}
        with self._connection.execute(newest, execution_options=options) as rows:
            yield from (_alert.decode(row.alert) for row in rows)

    def put(self, alert: Alert) -> None:
        """Keeps an alert in place of what it was."""
        row = {name: str(getattr(alert, name)) for name in ("endpoint", "rule", "subject")}
        row |= {"environment": alert.environment, "phase": alert.phase.value}
        values: dict[str, Any] = {
            **row,
            "phase_at": alert.phase_at,
            "alert": msgspec.json.encode(alert).decode(),
        }
        mine = alerts.c.id == alert.id
        if not self._connection.execute(sa.update(alerts).where(mine).values(values)).rowcount:
            self._connection.execute(sa.insert(alerts).values(id=alert.id, **values))

    def note(self, alert: Alert, moments: Iterable[Moment]) -> None:
        """Puts what happened to an alert behind what happened before."""
        mine = alert_events.c.alert == alert.id
        last = self._connection.scalar(sa.select(sa.func.max(alert_events.c.number)).where(mine))
        for number, moment in enumerate(moments, start=(last or 0) + 1):
            row = msgspec.structs.asdict(moment) | {
                "number": number,
                "environment": alert.environment,
                "endpoint": alert.endpoint,
            }
            self._connection.execute(sa.insert(alert_events).values(row))

    def moments(self, alert_id: str) -> list[Moment]:
        """What happened to an alert, oldest first."""
        mine = alert_events.c.alert == alert_id
        query = sa.select(alert_events).where(mine).order_by(alert_events.c.number)
        return [_moment(row) for row in self._connection.execute(query)]

    def events(
        self, environment: str, event: str, *, since: datetime, endpoint: str | None = None
    ) -> list[Moment]:
        """What happened of one kind since then, oldest first; of one endpoint or of all."""
        query = sa.select(alert_events).where(
            alert_events.c.environment == environment,
            alert_events.c.event == event,
            alert_events.c.at > since,
        )
        if endpoint is not None:
            query = query.where(alert_events.c.endpoint == endpoint)
        return [_moment(row) for row in self._connection.execute(query.order_by(alert_events.c.at))]

    def forget(self, environment: str, *, before: datetime) -> None:
        """Removes alerts that ended before then, with what happened to them."""
        is_old = (
            (alerts.c.environment == environment)
            & (alerts.c.phase == Phase.RESOLVED.value)
            & (alerts.c.phase_at < before)
        )
        gone = sa.select(alerts.c.id).where(is_old)
        self._connection.execute(sa.delete(alert_events).where(alert_events.c.alert.in_(gone)))
        self._connection.execute(sa.delete(alerts).where(is_old))

    def _read(self, query: sa.Select[Any]) -> list[Alert]:
        return [_alert.decode(text) for text in self._connection.scalars(query)]


class SilenceRows:
    """The silences of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def present(self, environment: str, *, now: datetime) -> list[Silence]:
        """Those that have not ended, in the order of their ends."""
        mine = (silences.c.environment == environment) & (silences.c.until > now)
        query = sa.select(silences).where(mine).order_by(silences.c.until, silences.c.id)
        return [Silence(**row) for row in self._connection.execute(query).mappings()]

    def add(self, silence: Silence) -> None:
        """Keeps a silence; its id must be new."""
        self._connection.execute(sa.insert(silences).values(msgspec.structs.asdict(silence)))

    def end(self, silence_id: str, *, at: datetime) -> None:
        """Lets a silence end then."""
        mine = silences.c.id == silence_id
        self._connection.execute(sa.update(silences).where(mine).values(until=at))


def _moment(row: Any) -> Moment:
    return Moment(alert=row.alert, at=row.at, event=row.event, message=row.message, by=row.by)
