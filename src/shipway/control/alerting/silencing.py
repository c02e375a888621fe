"""The use cases of silences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated
from uuid import uuid4

import msgspec

from shipway.control.changes import Request
from shipway.core.alerts.silences import Silence
from shipway.core.audit import Change
from shipway.core.errors import InvalidRequest, NotFound
from shipway.core.text import printable
from shipway.store.sql.database import Database

LONGEST_SILENCE = timedelta(days=30)


class SilenceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alerts nobody shall be told of, for how long, and why."""

    endpoint: Annotated[str, msgspec.Meta(max_length=63)]
    rule: Annotated[str, msgspec.Meta(max_length=127)] = "*"
    subject: Annotated[str, msgspec.Meta(max_length=255)] = "*"
    for_s: float
    reason: str


class Silences:
    """Silences over a database. Thread-safe; methods block and may raise StoreUnavailable."""

    def __init__(self, database: Database, *, environment: str) -> None:
        self._database = database
        self._environment = environment

    def add(self, wanted: SilenceRequest, request: Request) -> Silence:
        """Lets nobody be told of certain alerts for a while.

        Raises:
            InvalidRequest: it has no reason, or lasts too long.
        """
        longest_s = LONGEST_SILENCE.total_seconds()
        if not 0 < wanted.for_s <= longest_s or not wanted.reason.strip():
            raise InvalidRequest(
                "A silence needs a reason, and lasts at most 30 days.",
                next_step="Give `--for 2h --reason WHY`.",
            )
        silence = Silence(
            id=uuid4().hex[:10],
            environment=self._environment,
            # Alerts' texts are printable, too, so that no other could match.
            endpoint=printable(wanted.endpoint),
            rule=printable(wanted.rule),
            subject=printable(wanted.subject),
            until=request.now + timedelta(seconds=wanted.for_s),
            reason=printable(wanted.reason),
            by=request.actor,
            at=request.now,
        )
        with self._database.transaction() as tx:
            tx.silences.add(silence)
            tx.audit.append(_silence_change("alert.silence", silence, request))
        return silence

    def present(self, now: datetime) -> Sequence[Silence]:
        """The silences that have not ended."""
        with self._database.reading() as tx:
            return tx.silences.present(self._environment, now=now)

    def end(self, silence_id: str, request: Request) -> Silence:
        """Ends a silence now.

        Raises:
            NotFound: there is none of that id.
        """
        with self._database.transaction() as tx:
            found = tx.silences.present(self._environment, now=request.now)
            silence = next((one for one in found if one.id == silence_id), None)
            if silence is None:
                raise NotFound.named(
                    silence_id, (), next_step="`shipway alerts silences` has them."
                )
            tx.silences.end(silence_id, at=request.now)
            tx.audit.append(_silence_change("alert.unsilence", silence, request))
        return silence


def _silence_change(action: str, silence: Silence, request: Request) -> Change:
    details = {"id": silence.id, "rule": silence.rule, "subject": silence.subject}
    details |= {"until": silence.until.isoformat(), "reason": silence.reason}
    return Change(
        at=request.now,
        actor=request.actor,
        action=action,
        subject=silence.endpoint or "shipway",
        details=details,
    )
