"""The audit chain as rows."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import sqlalchemy as sa

from shipway.core.audit import AuditEvent, Change, next_event
from shipway.store.sql.tables import audit

_PAGE = 1000


class AuditRows:
    """The audit record of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def append(self, change: Change) -> AuditEvent:
        """Puts a change on record as the newest link of the chain."""
        newest = next(iter(self.newest(limit=1)), None)
        event = next_event(change, newest)
        row = msgspec.structs.asdict(event)
        row["details"] = msgspec.json.encode(event.details, order="deterministic").decode()
        self._connection.execute(sa.insert(audit).values(row))
        return event

    def newest(self, *, limit: int, subject: str | None = None) -> list[AuditEvent]:
        """The newest events, newest first.

        `subject` keeps those of that name, and for a model those of its versions and aliases.
        """
        query = sa.select(audit).order_by(audit.c.sequence.desc()).limit(limit)
        if subject is not None:
            column = audit.c.subject
            below = [column.startswith(f"{subject}{mark}", autoescape=True) for mark in ":@"]
            query = query.where(sa.or_(column == subject, *below))
        return [_event(row) for row in self._connection.execute(query)]

    def chain(self) -> Iterator[AuditEvent]:
        """Every event, oldest first, read a page at a time."""
        after = -1
        while rows := self._page(after):
            yield from map(_event, rows)
            after = rows[-1].sequence

    def _page(self, after: int) -> list[sa.Row[tuple[object, ...]]]:
        query = sa.select(audit).where(audit.c.sequence > after).order_by(audit.c.sequence)
        return list(self._connection.execute(query.limit(_PAGE)))


def _event(row: sa.Row[tuple[object, ...]]) -> AuditEvent:
    return AuditEvent(
        sequence=row.sequence,
        at=row.at,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        details=msgspec.json.decode(row.details),
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
