"""The one clock of the control process."""

from __future__ import annotations

from datetime import UTC, datetime


def clock() -> datetime:
    """Now, aware, in UTC: the one clock of the control process."""
    return datetime.now(UTC)  # noqa: TID251 - the bootstrap owns the clock
