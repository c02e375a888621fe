"""The calls of the audit record. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

import msgspec

from shipway.client.exchange import Call, reading
from shipway.client.times import text_of, zoned
from shipway.core.audit import AuditEvent
from shipway.core.heads import KeyChange
from shipway.core.retention import Pruned
from shipway.core.verification import ChainPage, ChainVerdict

_AUDIT = "/api/v1/audit"
_TIMEOUT_S = 3600.0
"""Control reads the whole chain before it answers."""


class AuditFilters(TypedDict, total=False):
    """Which audit events to list, newest first. Times without a zone are UTC.

    subject: a name; of a model, also its versions and aliases.
    actor: who did it.
    action: an action (`alias.set`), or its noun (`alias`).
    since: from then on.
    until: before then.
    before: with a lower number; that of the last event shown gives the next page.
    limit: at most so many, 1 to 1000; 100 when left out.
    """

    subject: str | None
    actor: str | None
    action: str | None
    since: datetime | None
    until: datetime | None
    before: int | None
    limit: int


def events(filters: AuditFilters) -> Call[tuple[AuditEvent, ...]]:
    """The events that the filters let through."""
    given = {name: _text(value) for name, value in filters.items() if value is not None}
    return Call(method="GET", path=_AUDIT, query=given, read=reading(tuple[AuditEvent, ...]))


def event(sequence: int) -> Call[AuditEvent]:
    """One event."""
    return Call(method="GET", path=f"{_AUDIT}/{sequence}", read=reading(AuditEvent))


def check(*, archives: bool) -> Call[ChainVerdict]:
    """Whether the chain holds."""
    return Call(
        method="GET",
        path=f"{_AUDIT}/check",
        query={"archives": "true"} if archives else {},
        read=reading(ChainVerdict),
        timeout_s=_TIMEOUT_S,
    )


def page(*, after: int | None, heads_after: int, limit: int) -> Call[ChainPage]:
    """A page of the chain."""
    query = {"heads_after": str(heads_after), "limit": str(limit)}
    if after is not None:
        query["after"] = str(after)
    return Call(method="GET", path=f"{_AUDIT}/chain", query=query, read=reading(ChainPage))


def prune(*, before: datetime | None, dry_run: bool) -> Call[Pruned]:
    """Archives the oldest events."""
    return Call(
        method="POST",
        path=f"{_AUDIT}/prune",
        read=reading(Pruned),
        body=msgspec.json.encode({"before": before and zoned(before), "dry_run": dry_run}),
        headers={"content-type": "application/json"},
        timeout_s=_TIMEOUT_S,
    )


def rotate_key() -> Call[KeyChange]:
    """Replaces the key that signs."""
    return Call(method="POST", path=f"{_AUDIT}/rotate-key", read=reading(KeyChange))


def _text(value: object) -> str:
    return text_of(value) if isinstance(value, datetime) else str(value)
