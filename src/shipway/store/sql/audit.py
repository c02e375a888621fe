"""The audit chain as rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar

import msgspec
import sqlalchemy as sa

from shipway.core.audit import AuditEvent, AuditQuery, Change, next_event
from shipway.store.sql.tables import audit

_PAGE = 1000
_ORIGIN_LENGTH = 255

ORIGIN: ContextVar[str] = ContextVar("ORIGIN", default="")
"""The address of who asks for what runs now; the record has it where a change names none itself."""


class AuditRows:
    """The audit record of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def append(self, change: Change) -> AuditEvent:
        """Puts a change on record as the newest link of the chain."""
        origin = (change.origin or ORIGIN.get())[:_ORIGIN_LENGTH]
        newest = next(iter(self.newest(limit=1)), None)
        event = next_event(msgspec.structs.replace(change, origin=origin), newest)
        row = msgspec.structs.asdict(event)
        row["details"] = msgspec.json.encode(event.details, order="deterministic").decode()
        self._connection.execute(sa.insert(audit).values(row))
        return event

    def newest(self, *, limit: int, subject: str | None = None) -> list[AuditEvent]:
        """The newest events, newest first; `subject` as in `AuditQuery`."""
        return self.matching(AuditQuery(subject=subject, limit=limit))

    def matching(self, query: AuditQuery) -> list[AuditEvent]:
        """The events that a query asks for, newest first."""
        found = sa.select(audit).where(*_conditions(query))
        found = found.order_by(audit.c.sequence.desc()).limit(query.limit)
        return [_event(row) for row in self._connection.execute(found)]

    def get(self, sequence: int) -> AuditEvent | None:
        """One event; None when there is none of that number."""
        query = sa.select(audit).where(audit.c.sequence == sequence)
        row = self._connection.execute(query).first()
        return None if row is None else _event(row)

    def chain(self) -> Iterator[AuditEvent]:
        """Every event, oldest first, read a page at a time."""
        page = self.page(after=None, limit=_PAGE)
        while page:
            yield from page
            page = self.page(after=page[-1].sequence, limit=_PAGE)

    def page(self, *, after: int | None, limit: int) -> list[AuditEvent]:
        """Events after that number, oldest first; from the first one for None."""
        query = sa.select(audit).order_by(audit.c.sequence).limit(limit)
        if after is not None:
            query = query.where(audit.c.sequence > after)
        return [_event(row) for row in self._connection.execute(query)]

    def remove_through(self, sequence: int) -> None:
        """Removes the events up to that number, which must be in an archive."""
        self._connection.execute(sa.delete(audit).where(audit.c.sequence <= sequence))


def _conditions(query: AuditQuery) -> Iterator[sa.ColumnElement[bool]]:
    if query.subject is not None:
        below = [
            audit.c.subject.startswith(f"{query.subject}{mark}", autoescape=True) for mark in ":@"
        ]
        yield sa.or_(audit.c.subject == query.subject, *below)
    if query.actor is not None:
        yield audit.c.actor == query.actor
    if query.action is not None:
        verbs = audit.c.action.startswith(f"{query.action}.", autoescape=True)
        yield sa.or_(audit.c.action == query.action, verbs)
    if query.since is not None:
        yield audit.c.at >= query.since
    if query.until is not None:
        yield audit.c.at < query.until
    if query.before is not None:
        yield audit.c.sequence < query.before


def _event(row: sa.Row[tuple[object, ...]]) -> AuditEvent:
    return AuditEvent(
        sequence=row.sequence,
        at=row.at,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        details=msgspec.json.decode(row.details),
        origin=row.origin,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
