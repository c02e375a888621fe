"""Rollouts as rows: the record of each, as it stands or as it ended."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from shipway.core.rollouts import Rollout
from shipway.store.sql.tables import rollouts


class RolloutRows:
    """The rollouts of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, rollout: Rollout) -> None:
        """Writes a rollout, over the row that it has already."""
        state = msgspec.json.encode(rollout).decode()
        mine = rollouts.c.id == rollout.id
        updated = sa.update(rollouts).where(mine).values(state=state)
        if self._connection.execute(updated).rowcount:
            return
        row = {
            "id": rollout.id,
            "environment": rollout.environment,
            "endpoint": rollout.endpoint,
            "started_at": rollout.started_at,
            "state": state,
        }
        self._connection.execute(sa.insert(rollouts).values(row))

    def get(self, rollout_id: str) -> Rollout | None:
        """One rollout."""
        text = self._connection.scalar(
            sa.select(rollouts.c.state).where(rollouts.c.id == rollout_id)
        )
        return None if text is None else msgspec.json.decode(text, type=Rollout)

    def of(self, environment: str, endpoint: str, *, limit: int) -> list[Rollout]:
        """The newest rollouts of an endpoint, newest first."""
        mine = (rollouts.c.environment == environment) & (rollouts.c.endpoint == endpoint)
        query = sa.select(rollouts.c.state).where(mine)
        newest = query.order_by(rollouts.c.started_at.desc(), rollouts.c.id).limit(limit)
        return [
            msgspec.json.decode(text, type=Rollout) for text in self._connection.scalars(newest)
        ]
