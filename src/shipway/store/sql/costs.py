"""Charges as rows, an hour at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

import msgspec
import sqlalchemy as sa

from shipway.core.costs import Charge
from shipway.store.sql.tables import charges


class ChargeRows:
    """The charges of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, environment: str, found: Iterable[Charge]) -> None:
        """Keeps the charges of hours that have none yet."""
        rows = [{"environment": environment, **msgspec.structs.asdict(one)} for one in found]
        if rows:
            self._connection.execute(sa.insert(charges), rows)

    def forget(self, environment: str, *, since: datetime) -> None:
        """Removes the charges of hours that begin then or later."""
        mine = (charges.c.environment == environment) & (charges.c.hour >= since)
        self._connection.execute(sa.delete(charges).where(mine))

    def newest_hour(self, environment: str) -> datetime | None:
        """The last hour that was charged; None before the first."""
        mine = charges.c.environment == environment
        row = self._connection.execute(
            sa.select(charges.c.hour).where(mine).order_by(charges.c.hour.desc()).limit(1)
        ).first()
        return None if row is None else row.hour

    def between(
        self, environment: str, since: datetime, until: datetime, *, endpoint: str = ""
    ) -> tuple[Charge, ...]:
        """The charges of the hours that begin in [since, until), of one endpoint or of all, oldest first."""
        wanted = (
            (charges.c.environment == environment)
            & (charges.c.hour >= since)
            & (charges.c.hour < until)
        )
        if endpoint:
            wanted &= charges.c.endpoint == endpoint
        return self._found(wanted)

    def at(self, environment: str, hours: Collection[datetime]) -> tuple[Charge, ...]:
        """The charges of these hours, oldest first."""
        return self._found((charges.c.environment == environment) & charges.c.hour.in_(hours))

    def spent(
        self, environment: str, since: datetime, until: datetime, *, currency: str
    ) -> dict[str, float]:
        """By endpoint, what the hours that begin in [since, until) cost in all, of what is in that currency."""
        wanted = (
            (charges.c.environment == environment)
            & (charges.c.hour >= since)
            & (charges.c.hour < until)
            & (charges.c.currency == currency)
        )
        total = sa.func.sum(charges.c.own + charges.c.shared)
        query = sa.select(charges.c.endpoint, total.label("total")).where(wanted)
        rows = self._connection.execute(query.group_by(charges.c.endpoint))
        return {row.endpoint: row.total for row in rows}

    def _found(self, wanted: sa.ColumnElement[bool]) -> tuple[Charge, ...]:
        rows = self._connection.execute(sa.select(charges).where(wanted).order_by(charges.c.hour))
        names = Charge.__struct_fields__
        return tuple(Charge(**{name: getattr(row, name) for name in names}) for row in rows)
