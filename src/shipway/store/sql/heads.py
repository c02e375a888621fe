"""The signed heads and cuts of the audit chain as rows."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import sqlalchemy as sa

from shipway.core.heads import Cut, Head
from shipway.store.sql.tables import audit_cuts, audit_heads

_PAGE = 1000


class HeadRows:
    """The signed heads of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, head: Head) -> None:
        """Keeps a head."""
        self._connection.execute(sa.insert(audit_heads).values(msgspec.structs.asdict(head)))

    def next_number(self) -> int:
        """The number of the next head; the transaction must be one that may write."""
        last = self._connection.scalar(sa.select(sa.func.max(audit_heads.c.number)))
        return (last or 0) + 1

    def newest_of(self, public_key: str) -> Head | None:
        """The newest head that this key signed."""
        query = sa.select(audit_heads).where(audit_heads.c.public_key == public_key)
        row = self._connection.execute(query.order_by(audit_heads.c.number.desc()).limit(1)).first()
        return None if row is None else _head(row)

    def last_within(self, sequence: int) -> Head | None:
        """The newest head of an event up to that number."""
        query = sa.select(audit_heads).where(audit_heads.c.sequence <= sequence)
        query = query.order_by(audit_heads.c.sequence.desc(), audit_heads.c.number.desc())
        row = self._connection.execute(query.limit(1)).first()
        return None if row is None else _head(row)

    def by_number(self, *, after: int = 0) -> Iterator[Head]:
        """The heads after that number, read a page at a time."""
        while True:
            query = sa.select(audit_heads).where(audit_heads.c.number > after)
            query = query.order_by(audit_heads.c.number).limit(_PAGE)
            page = [_head(row) for row in self._connection.execute(query)]
            yield from page
            if not page:
                return
            after = page[-1].number

    def by_event(self) -> Iterator[Head]:
        """All heads, in the order of their events and then of their numbers."""
        place = sa.tuple_(audit_heads.c.sequence, audit_heads.c.number)
        after = (-1, 0)
        while True:
            query = sa.select(audit_heads).where(place > sa.tuple_(*after))
            query = query.order_by(audit_heads.c.sequence, audit_heads.c.number).limit(_PAGE)
            page = [_head(row) for row in self._connection.execute(query)]
            yield from page
            if not page:
                return
            after = (page[-1].sequence, page[-1].number)

    def page(self, *, after: int, through: int | None) -> list[Head]:
        """The heads after that number, of events up to that one, in the order of `by_event`."""
        query = sa.select(audit_heads).where(audit_heads.c.number > after)
        if through is not None:
            query = query.where(audit_heads.c.sequence <= through)
        query = query.order_by(audit_heads.c.sequence, audit_heads.c.number)
        return [_head(row) for row in self._connection.execute(query)]

    def remove_through(self, number: int) -> None:
        """Removes the heads up to that number, which must be in an archive."""
        self._connection.execute(sa.delete(audit_heads).where(audit_heads.c.number <= number))


class CutRows:
    """The cuts of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, cut: Cut) -> None:
        """Keeps a cut."""
        self._connection.execute(sa.insert(audit_cuts).values(msgspec.structs.asdict(cut)))

    def all(self) -> list[Cut]:
        """Every cut, oldest first."""
        query = sa.select(audit_cuts).order_by(audit_cuts.c.sequence)
        return [Cut(**row._mapping) for row in self._connection.execute(query)]

    def newest(self) -> Cut | None:
        """Where the chain begins now; None when nothing was archived."""
        query = sa.select(audit_cuts).order_by(audit_cuts.c.sequence.desc()).limit(1)
        row = self._connection.execute(query).first()
        return None if row is None else Cut(**row._mapping)


def _head(row: sa.Row[tuple[object, ...]]) -> Head:
    return Head(**row._mapping)
