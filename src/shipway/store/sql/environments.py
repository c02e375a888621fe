"""Environments as rows: their policies, what people said of versions, and what was promoted."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.core.candidacy import Opinion, Promotion, Review
from shipway.core.policy import DeclaredPolicy, EnvironmentPolicy
from shipway.store.sql.tables import environments, promotions, reviews


class PolicyRows:
    """The policies of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, environment: str) -> DeclaredPolicy | None:
        """An environment's policy; None when it has none."""
        query = sa.select(environments).where(environments.c.name == environment)
        row = self._connection.execute(query).first()
        return None if row is None else _declared(row)

    def list(self) -> list[DeclaredPolicy]:
        """All policies, in the order of names."""
        query = sa.select(environments).order_by(environments.c.name)
        return [_declared(row) for row in self._connection.execute(query)]

    def put(self, declared: DeclaredPolicy) -> None:
        """Makes a policy, or writes over the one of that environment."""
        self.remove(declared.policy.name)
        row = {
            "name": declared.policy.name,
            "generation": declared.generation,
            "policy": msgspec.json.encode(declared.policy).decode(),
        }
        self._connection.execute(sa.insert(environments).values(row))

    def remove(self, environment: str) -> None:
        """Forgets a policy; nothing when there is none."""
        mine = environments.c.name == environment
        self._connection.execute(sa.delete(environments).where(mine))


class ReviewRows:
    """The reviews of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, review: Review) -> None:
        """Keeps what a person said in place of what they said before of the same bytes."""
        row = msgspec.structs.asdict(review) | {"decision": review.decision.value}
        mine = sa.and_(*(column == row[column.name] for column in reviews.primary_key.columns))
        self._connection.execute(sa.delete(reviews).where(mine))
        self._connection.execute(sa.insert(reviews).values(row))

    def of(self, model: str, digest: str) -> list[Review]:
        """What was said of these bytes of a model, everywhere, oldest first."""
        mine = (reviews.c.model == model) & (reviews.c.digest == digest)
        oldest = (reviews.c.at, reviews.c.environment, reviews.c.reviewer)
        query = sa.select(reviews).where(mine).order_by(*oldest)
        return [
            Review(**{**row, "decision": Opinion(row["decision"])})
            for row in self._connection.execute(query).mappings()
        ]


class PromotionRows:
    """The promotions of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, promotion: Promotion) -> None:
        """Keeps a promotion in place of an earlier one of the same bytes to the same environment."""
        row = msgspec.structs.asdict(promotion)
        mine = sa.and_(*(column == row[column.name] for column in promotions.primary_key.columns))
        self._connection.execute(sa.delete(promotions).where(mine))
        self._connection.execute(sa.insert(promotions).values(row))

    def of(self, model: str, digest: str) -> list[Promotion]:
        """Where these bytes of a model were let in, oldest first."""
        mine = (promotions.c.model == model) & (promotions.c.digest == digest)
        query = sa.select(promotions).where(mine)
        oldest = query.order_by(promotions.c.at, promotions.c.environment)
        return [Promotion(**row) for row in self._connection.execute(oldest).mappings()]


def _declared(row: Any) -> DeclaredPolicy:
    policy = msgspec.json.decode(row.policy, type=EnvironmentPolicy)
    return DeclaredPolicy(policy=policy, generation=row.generation)
