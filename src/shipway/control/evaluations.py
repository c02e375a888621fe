"""The use cases of evaluations: keeping what was found of a version, and reading it."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import msgspec

from shipway.control.registry import resolved
from shipway.core.audit import Change
from shipway.core.errors import InvalidRequest
from shipway.core.evaluations import Evaluation, Findings, check_findings
from shipway.core.versions import VersionQuery
from shipway.store.sql.database import Database


class Evaluations:
    """Evaluations over a database. Thread-safe; methods block and may raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(
        self, query: VersionQuery, findings: Findings, *, actor: str, now: datetime
    ) -> Evaluation:
        """Keeps what was found of a version, under a new id.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
            InvalidRequest: the findings are of other bytes, or not fit to be kept.
        """
        check_findings(findings)
        with self._database.transaction() as tx:
            version = resolved(tx, query)
            if findings.digest != version.digest:
                raise InvalidRequest(
                    f"The evaluation is of bundle `{findings.digest}`, `{version.ref}` is"
                    f" `{version.digest}`.",
                    next_step=f"Evaluate it again: `shipway evaluate {version.ref}`.",
                )
            evaluation = Evaluation(
                **msgspec.structs.asdict(findings),
                id=uuid4().hex,
                model=version.model,
                number=version.number,
                at=now,
                by=actor,
            )
            tx.evaluations.add(evaluation)
            tx.audit.append(_change(evaluation))
        return evaluation

    def of(self, query: VersionQuery) -> list[Evaluation]:
        """The evaluations of a version's bytes, newest first.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        """
        with self._database.reading() as tx:
            return tx.evaluations.of_digest(resolved(tx, query).digest)


def _change(evaluation: Evaluation) -> Change:
    return Change(
        at=evaluation.at,
        actor=evaluation.by,
        action="version.evaluate",
        subject=f"{evaluation.model}:{evaluation.number}",
        details={
            "id": evaluation.id,
            "digest": evaluation.digest,
            "data": evaluation.data,
            "data_sha256": evaluation.data_sha256,
            "rows": evaluation.rows,
            "measures": {one.name: one.value for one in evaluation.measures},
        },
    )
