"""What the prediction log tells: rows, one request with what became of it, and how much there is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class LoggedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of the log, by column; `is_cut` when there are more."""

    rows: tuple[dict[str, Any], ...]
    is_cut: bool = False


class VersionStats(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one version is stored, and of which time."""

    model: str
    version: int
    rows: int
    size_bytes: int
    since: datetime
    until: datetime


class LogStats(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an endpoint's log is stored. `since` and `until` are None where nothing is."""

    endpoint: str
    rows: int = 0
    feedback_rows: int = 0
    size_bytes: int = 0
    files: int = 0
    since: datetime | None = None
    until: datetime | None = None
    versions: tuple[VersionStats, ...] = ()


class AnsweredRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a request, by the names of the model's fields. Fields that are not kept are not there."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What one version said of a request, at which place behind the endpoint, and how fast."""

    model: str
    version: int
    role: str
    at: datetime
    latency_ms: float
    principal: str | None
    segment: str | None
    key: str | None
    rows: tuple[AnsweredRow, ...]


class FeedbackSaid(msgspec.Struct, frozen=True, kw_only=True):
    """One message of feedback. `row` is None for the whole request."""

    at: datetime
    row: int | None
    id: str | None
    key: str | None
    label: str | None
    score: float | str | None
    outcomes: dict[str, Any]
    principal: str | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One request: what was asked, who answered what, and what was learned of it later."""

    endpoint: str
    request_id: str
    answers: tuple[Answered, ...]
    feedback: tuple[FeedbackSaid, ...] = ()
