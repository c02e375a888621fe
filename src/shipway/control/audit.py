"""Reading the audit record, and putting denials on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from threading import Lock

from shipway.core.audit import AuditEvent, AuditQuery, BrokenLink, Change, first_broken_link
from shipway.core.denials import Denial, Denials
from shipway.core.errors import NotFound
from shipway.core.verification import ChainPage
from shipway.store.sql.database import Database


class AuditLog:
    """The record of every change. Thread-safe; methods block and may raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._denials = Denials()
        self._lock = Lock()

    def newest(self, *, limit: int = 100, subject: str | None = None) -> list[AuditEvent]:
        """The newest events, newest first; `subject` keeps one name and what belongs to it."""
        return self.matching(AuditQuery(limit=limit, subject=subject))

    def matching(self, query: AuditQuery) -> list[AuditEvent]:
        """The events that a query asks for, newest first."""
        with self._database.reading() as tx:
            return tx.audit.matching(query)

    def get(self, sequence: int) -> AuditEvent:
        """One event.

        Raises:
            NotFound: there is none of that number.
        """
        with self._database.reading() as tx:
            event = tx.audit.get(sequence)
            cut = tx.cuts.newest()
        if event is not None:
            return event
        is_archived = cut is not None and 0 < sequence <= cut.sequence
        raise NotFound(
            f"There is no audit event {sequence}" + (", it was archived." if is_archived else "."),
            next_step="`shipway audit list` shows the newest.",
            sequence=sequence,
        )

    def page(self, *, after: int | None, heads_after: int = 0, limit: int) -> ChainPage:
        """The chain after that event and that head; from its beginning for None.

        A page of fewer events than `limit` is the last one, and has all heads that are left.
        """
        with self._database.snapshot() as tx:
            events = tx.audit.page(after=after, limit=limit)
            through = events[-1].sequence if len(events) == limit else None
            return ChainPage(
                events=tuple(events),
                heads=tuple(tx.heads.page(after=heads_after, through=through)),
                cut=tx.cuts.newest() if after is None else None,
            )

    def first_broken_link(self) -> BrokenLink | None:
        """Where the rows by themselves were tampered with, without a look at the signed heads."""
        with self._database.reading() as tx:
            return first_broken_link(tx.audit.chain())

    def deny(self, denial: Denial, *, now: datetime) -> None:
        """Puts a denial on record: at once, or in a flood of them as a part of the minute's sum.

        When it raises StoreUnavailable, the denial is not on record.
        """
        with self._lock:
            self._append(self._denials.take(denial, now=now))

    def sum_up_denials(self, *, now: datetime, at_the_end: bool = False) -> None:
        """Puts the sums of a minute that has ended on record; `at_the_end`, of this minute too."""
        with self._lock:
            due = self._denials.due(now=now)
            self._append(due + (self._denials.rest(now=now) if at_the_end else []))

    def _append(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        with self._database.transaction() as tx:
            for change in changes:
                tx.audit.append(change)
