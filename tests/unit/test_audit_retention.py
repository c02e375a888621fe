"""What retention lets go: only a beginning of the chain, and nothing that a policy keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shipway.core.audit import AuditEvent, Change, next_event
from shipway.core.retention import Retention, environment_of, last_to_go

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def event(*, age_days: float, environment: str | None = None, **fields: Any) -> AuditEvent:
    details = {} if environment is None else {"environment": environment}
    change: dict[str, Any] = {"action": "x.y", "subject": "s", "details": details, **fields}
    return next_event(Change(at=NOW - timedelta(days=age_days), actor="ada", **change), None)


def numbered(*chain: AuditEvent) -> list[AuditEvent]:
    made: list[AuditEvent] = []
    for one in chain:
        made.append(next_event(one, made[-1] if made else None))
    return made


def retention(before_days: float | None = None, **keep_days: int | None) -> Retention:
    before = None if before_days is None else NOW - timedelta(days=before_days)
    return Retention(keep_days=keep_days, now=NOW, before=before)


@pytest.mark.parametrize(
    ("known", "age_days", "environment", "goes"),
    [
        (retention(), 9999, None, False),
        (retention(), 9999, "dev", False),
        (retention(dev=30), 31, "dev", True),
        (retention(dev=30), 29, "dev", False),
        (retention(dev=30), 9999, "staging", False),
        (retention(dev=30, production=365), 31, None, False),
        (retention(dev=30, production=365), 366, None, True),
        (retention(dev=30, production=None), 9999, None, False),
        (retention(10), 11, None, True),
        (retention(10), 11, "dev", True),
        (retention(10), 9, "dev", False),
        (retention(10, dev=30), 11, "dev", False),
        (retention(10, dev=30), 31, "dev", True),
        (retention(60, dev=30), 31, "dev", False),
        (retention(10, dev=30, production=None), 11, None, False),
        (retention(10, dev=30, production=None), 31, None, True),
    ],
)
def test_what_goes(
    known: Retention, age_days: float, environment: str | None, goes: object
) -> None:
    assert known.lets_go(event(age_days=age_days, environment=environment)) is goes


def test_event_that_stays_keeps_all_after_it() -> None:
    known = retention(dev=30, production=365)
    chain = numbered(
        event(age_days=100, environment="dev"),
        event(age_days=99, environment="dev"),
        event(age_days=98, environment="production"),
        event(age_days=97, environment="dev"),
    )
    assert last_to_go(chain, known) == 2
    assert last_to_go(chain[2:], known) == 0
    assert last_to_go([], known) == 0


@pytest.mark.parametrize(
    ("fields", "environment"),
    [
        ({"details": {"after": {"spec": {"environment": "dev"}}, "before": None}}, "dev"),
        ({"details": {"after": None, "before": {"spec": {"environment": "dev"}}}}, "dev"),
        ({"details": {"after": {"environment": "staging", "reviewer": "bo"}}}, "staging"),
        ({"details": {"environment": "production", "after": {}}}, "production"),
        ({"action": "environment.apply", "subject": "production"}, "production"),
        ({"details": {"after": 2, "before": 1}}, None),
    ],
)
def test_environment_of_an_event(fields: dict[str, Any], environment: str | None) -> None:
    assert environment_of(event(age_days=1, **fields)) == environment
