"""Evaluations as rows."""

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
        """Keeps an evaluation; its id is new."""
        row = {
            "id": evaluation.id,
            "model": evaluation.model,
            "number": evaluation.number,
            "digest": evaluation.digest,
            "at": evaluation.at,
            "result": msgspec.json.encode(evaluation).decode(),
        }
        self._connection.execute(sa.insert(evaluations).values(row))

    def of_digest(self, digest: str) -> list[Evaluation]:
        """Those of a bundle, newest first."""
        mine = evaluations.c.digest == digest
        newest = (evaluations.c.at.desc(), evaluations.c.id.desc())
        query = sa.select(evaluations.c.result).where(mine).order_by(*newest)
        texts = self._connection.scalars(query)
        return [msgspec.json.decode(text, type=Evaluation) for text in texts]
