from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.audit import AuditEvent, Change, first_broken_link, next_event

AT = datetime(2026, 1, 1, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def chain(*details: dict[str, Any]) -> list[AuditEvent]:
    events: list[AuditEvent] = []
    for facts in details:
        change = Change(at=AT, actor="ada", action="a.b", subject="churn", details=facts)
        events.append(next_event(change, events[-1] if events else None))
    return events


def test_first_event_has_number_one_and_follows_nothing() -> None:
    (event,) = chain({})
    assert (event.sequence, event.previous_hash) == (1, "0" * 64)


@given(st.lists(st.dictionaries(st.text(), JSON), max_size=5))
def test_untouched_chain_holds_after_a_trip_through_json(details: list[dict[str, Any]]) -> None:
    events = chain(*details)
    read = msgspec.json.decode(msgspec.json.encode(events), type=list[AuditEvent])
    assert first_broken_link(read) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor", "eve"),
        ("action", "x.y"),
        ("subject", "other"),
        ("details", {"n": 9}),
        ("at", datetime(2027, 1, 1, tzinfo=UTC)),
        ("hash", "1" * 64),
    ],
)
def test_any_changed_field_breaks_the_chain_at_its_event(field: str, value: Any) -> None:
    events = chain({"n": 1}, {"n": 2}, {"n": 3})
    events[1] = msgspec.structs.replace(events[1], **{field: value})
    broken = first_broken_link(events)
    assert broken is not None
    assert (broken.sequence, broken.reason) == (2, "event 2 was changed")


def test_removed_or_swapped_event_breaks_the_chain() -> None:
    events = chain({"n": 1}, {"n": 2}, {"n": 3})
    for damaged in ([events[0], events[2]], [events[1], events[0], events[2]], events[1:]):
        broken = first_broken_link(damaged)
        assert broken is not None
        assert broken.reason.endswith("is missing")


def test_event_rewritten_with_its_own_hash_breaks_the_next_link() -> None:
    events = chain({"n": 1}, {"n": 2}, {"n": 3})
    forged = Change(at=AT, actor="eve", action="a.b", subject="churn", details={"n": 2})
    events[1] = next_event(forged, events[0])
    broken = first_broken_link(events)
    assert broken is not None
    assert (broken.sequence, broken.reason) == (3, "event 3 does not follow the one before it")
