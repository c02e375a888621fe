"""Reading the audit record."""

from __future__ import annotations

from shipway.core.audit import AuditEvent, BrokenLink, first_broken_link
from shipway.store.sql.database import Database


class AuditLog:
    """The record of every change. Thread-safe; methods block and may raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, *, limit: int = 100, subject: str | None = None) -> list[AuditEvent]:
        """The newest events, newest first; `subject` keeps one name and what belongs to it."""
        with self._database.reading() as tx:
            return tx.audit.newest(limit=limit, subject=subject)

    def first_broken_link(self) -> BrokenLink | None:
        """Where the chain was tampered with; None when it holds. Reads all of it."""
        with self._database.reading() as tx:
            return first_broken_link(tx.audit.chain())
