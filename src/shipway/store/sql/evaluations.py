"""Evaluations as rows, found by the bundle that they are of."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from shipway.core.evaluations import Evaluation
from shipway.store.sql.tables import evaluations


class EvaluationRows:
    """The evaluations of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, evaluation: Evaluation) -> None:
        """Keeps an evaluation; its id must be new."""
        row = {
            "id": evaluation.id,
            "model": evaluation.model,
            "number": evaluation.number,
            "digest": evaluation.digest,
            "at": evaluation.at,
            "result": msgspec.json.encode(evaluation).decode(),
        }
        self._connection.execute(sa.insert(evaluations).values(row))

    def of_digest(self, digest: str, *, limit: int = 100) -> list[Evaluation]:
        """The newest evaluations of these bytes, under whatever name and number, newest first."""
        query = sa.select(evaluations.c.result).where(evaluations.c.digest == digest)
        newest = query.order_by(evaluations.c.at.desc(), evaluations.c.id).limit(limit)
        return [
            msgspec.json.decode(text, type=Evaluation) for text in self._connection.scalars(newest)
        ]
