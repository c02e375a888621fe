"""Times in requests: one without a zone is meant as UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, overload

from fastapi import Query

from shipway.core.errors import InvalidRequest

Moment = Annotated[str, Query(description="A time in ISO 8601; UTC where it names no zone.")]


@overload
def utc(at: datetime) -> datetime: ...
@overload
def utc(at: None) -> None: ...
def utc(at: datetime | None) -> datetime | None:
    """The time in UTC; None for none.

    Raises:
        InvalidRequest: in UTC it is before the year 1 or after 9999.
    """
    if at is None:
        return None
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidRequest(f"`{at.isoformat()}` is beyond the calendar.") from exc


def moment(name: str, text: str) -> datetime | None:
    """The time that a query parameter says; None for an empty one.

    Raises:
        InvalidRequest: it is no time.
    """
    if not text:
        return None
    try:
        return utc(datetime.fromisoformat(text))
    except ValueError as exc:
        raise InvalidRequest(
            f"`{name}` is no time: `{text[:50]}`.",
            next_step="Write it as 2026-05-06T12:00:00Z.",
            path=name,
        ) from exc
