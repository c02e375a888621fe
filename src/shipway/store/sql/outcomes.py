"""Outcomes as rows: sums by rollout, metric and version, and the ids that were counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.core.evidence import Moments
from shipway.store.sql.tables import outcome_ids, outcome_sums

_AT_ONCE = 500
"""Ids asked for in one query: databases bound its parameters."""


class OutcomeRows:
    """The outcomes of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def unseen(self, rollout: str, ids: Iterable[str]) -> set[str]:
        """Those of the ids that were not counted in this rollout, which are from now on."""
        wanted = list(dict.fromkeys(ids))
        known: set[str] = set()
        for at in range(0, len(wanted), _AT_ONCE):
            part = wanted[at : at + _AT_ONCE]
            mine = (outcome_ids.c.rollout == rollout) & outcome_ids.c.id.in_(part)
            known |= set(self._connection.scalars(sa.select(outcome_ids.c.id).where(mine)))
        new = [one for one in wanted if one not in known]
        if new:
            rows = [{"rollout": rollout, "id": one} for one in new]
            self._connection.execute(sa.insert(outcome_ids), rows)
        return set(new)

    def add(self, rollout: str, metric: str, version: str, moments: Moments) -> None:
        """Adds to what was counted of a metric and version."""
        added = {
            "n": outcome_sums.c.n + moments.n,
            "total": outcome_sums.c.total + moments.total,
            "squares": outcome_sums.c.squares + moments.squares,
        }
        self._write((rollout, metric, version), moments, added)

    def put(self, rollout: str, metric: str, version: str, moments: Moments) -> None:
        """Puts what is known of a metric and version in place of what was."""
        self._write((rollout, metric, version), moments, msgspec.structs.asdict(moments))

    def _write(
        self, key: tuple[str, str, str], moments: Moments, changed: Mapping[str, Any]
    ) -> None:
        """Changes the row of a key so; a new one gets the moments."""
        named = dict(zip(("rollout", "metric", "version"), key, strict=True))
        mine = sa.and_(*(outcome_sums.c[name] == value for name, value in named.items()))
        if not self._connection.execute(
            sa.update(outcome_sums).where(mine).values(changed)
        ).rowcount:
            row = {**named, **msgspec.structs.asdict(moments)}
            self._connection.execute(sa.insert(outcome_sums).values(row))

    def of(self, rollout: str) -> dict[tuple[str, str], Moments]:
        """What was counted in a rollout, by metric and version."""
        rows = self._connection.execute(
            sa.select(outcome_sums).where(outcome_sums.c.rollout == rollout)
        )
        return {
            (row.metric, row.version): Moments(n=row.n, total=row.total, squares=row.squares)
            for row in rows
        }
