"""Times in calls: one without a zone is meant as UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def zoned(at: datetime) -> datetime:
    """The time with its zone."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def text_of(at: datetime) -> str:
    """The time as a query parameter says it (RFC 3339)."""
    return zoned(at).isoformat()
