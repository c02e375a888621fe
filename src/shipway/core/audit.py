"""The audit record: a chain of events in which each carries the hash of the one before.

Changing, removing or reordering an event breaks the chain at that place. Cutting events off the end,
or computing all hashes anew, does not; the signed heads of `core.heads` show that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

GENESIS = "0" * 64
"""What stands for the hash before the first event."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did, before it is put on record.

    `action` is `noun.verb` (`version.register`, `alias.set`). `subject` is the name of what was
    changed: `churn`, `churn:2`, `churn@champion` or an endpoint's name. `details` are facts that
    JSON can hold, by custom `before`, `after` and `reason`. `origin` is the address of who asked,
    empty when nobody did over the network.
    """

    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any] = {}
    origin: str = ""


class AuditEvent(Change, frozen=True, kw_only=True):
    """One link: a change, its place in the chain from 1, and the two hashes that fix it there."""

    sequence: int
    previous_hash: str
    hash: str


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to show, newest first; None where it does not matter.

    `subject` keeps those of that name, and for a model those of its versions and aliases. `action` is
    an action (`alias.set`) or its noun (`alias`). `since` is within, `until` is not. `before` keeps
    those with a lower number: of the last one shown, it gives the next page.
    """

    subject: str | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    limit: int = 100


class BrokenLink(msgspec.Struct, frozen=True, kw_only=True):
    """The first event that does not fit, and why."""

    sequence: int
    reason: str


def hash_of(sequence: int, change: Change, previous_hash: str) -> str:
    """Hex SHA-256 over the previous hash and the canonical JSON (sorted keys) of number and change."""
    facts = [
        sequence,
        change.at.astimezone(UTC),
        change.actor,
        change.action,
        change.subject,
        change.details,
    ]
    if change.origin:
        # Events of releases that knew no origin keep their hashes.
        facts.append(change.origin)
    canonical = msgspec.json.encode(facts, order="sorted")
    return sha256(previous_hash.encode() + canonical).hexdigest()


def next_event(change: Change, previous: AuditEvent | None) -> AuditEvent:
    """The change as the link after `previous`; None when it is the first."""
    sequence = 1 if previous is None else previous.sequence + 1
    previous_hash = GENESIS if previous is None else previous.hash
    return AuditEvent(
        **{name: getattr(change, name) for name in Change.__struct_fields__},
        sequence=sequence,
        previous_hash=previous_hash,
        hash=hash_of(sequence, change, previous_hash),
    )


def fault_of(event: AuditEvent, *, sequence: int, previous_hash: str) -> str | None:
    """Why an event is not the link of that number after that hash; None when it is."""
    if event.sequence != sequence:
        return f"event {sequence} is missing"
    if event.previous_hash != previous_hash:
        return f"event {sequence} does not follow the one before it"
    if event.hash != hash_of(sequence, event, previous_hash):
        return f"event {sequence} was changed"
    return None


def first_broken_link(events: Iterable[AuditEvent]) -> BrokenLink | None:
    """Where the whole chain, oldest first from number 1, breaks by itself; None when it holds."""
    sequence, previous_hash = 1, GENESIS
    for event in events:
        reason = fault_of(event, sequence=sequence, previous_hash=previous_hash)
        if reason is not None:
            return BrokenLink(sequence=sequence, reason=reason)
        sequence, previous_hash = sequence + 1, event.hash
    return None
