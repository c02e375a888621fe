"""What feedback says of rollouts under way, brought to their guards and tests."""

from __future__ import annotations

import logging
from typing import Protocol

from shipway.control.performance import Asked
from shipway.core.errors import ShipwayError
from shipway.core.learned import learned
from shipway.core.performance import Performance
from shipway.core.rollouts import Rollout
from shipway.store.sql.database import Database

_log = logging.getLogger(__name__)


class PerformanceSource(Protocol):
    """Where it is known how endpoints do live."""

    def of(self, asked: Asked) -> Performance:
        """How the endpoint did. Blocks; raises ShipwayError where that cannot be told."""
        ...


class Learning:
    """Puts what feedback says in place of what it said before. For one thread; blocks."""

    def __init__(
        self, database: Database, performances: PerformanceSource, *, environment: str
    ) -> None:
        self._database = database
        self._performances = performances
        self._environment = environment

    def learn(self) -> int:
        """Looks at each rollout whose plan asks for feedback; gives how many were looked at.

        Raises:
            StoreUnavailable: the database is away.
        """
        with self._database.reading() as tx:
            states = [s for s in tx.endpoints.list() if s.spec.environment == self._environment]
        asking = [s.releasing for s in states if s.releasing and s.releasing.plan.feedback_metrics]
        return sum(self._learn(rollout) for rollout in asking)

    def _learn(self, rollout: Rollout) -> bool:
        try:
            asked = Asked(endpoint=rollout.endpoint, since=rollout.started_at)
            found = learned(self._performances.of(asked), rollout)
        except ShipwayError as exc:
            # The guards go by what was known before; without any, they wait.
            _log.warning("Feedback about `%s` cannot be read now: %s", rollout.endpoint, exc)
            return False
        wanted = rollout.plan.feedback_metrics
        with self._database.transaction() as tx:
            for (metric, version), moments in found.items():
                if metric in wanted:
                    tx.outcomes.put(rollout.id, metric, version, moments)
        return True
