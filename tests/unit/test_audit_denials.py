"""Denials: all are counted, and a flood of them makes few events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shipway.core.audit import Change
from shipway.core.denials import MOST_SUMS, SINGLES, SINGLES_IN_ALL, Denial, Denials

AT = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def denial(actor: str = "eve", subject: str = "churn", **fields: object) -> Denial:
    return Denial(actor=actor, right="deploy", subject=subject, **fields)  # type: ignore[arg-type]


def count_of(changes: list[Change]) -> int:
    return sum(change.details["count"] for change in changes)


def test_single_denial_says_who_was_refused_what_where_and_from_where() -> None:
    asked = denial(route="POST /endpoints/{name}/deploy", origin="10.0.0.7")
    (change,) = Denials().take(asked, now=AT)
    assert change == Change(
        at=AT,
        actor="eve",
        action="access.deny",
        subject="churn",
        details={"right": "deploy", "route": "POST /endpoints/{name}/deploy", "count": 1},
        origin="10.0.0.7",
    )


def test_flood_of_one_caller_is_singles_and_one_sum() -> None:
    denials = Denials()
    taken = [change for _ in range(1000) for change in denials.take(denial(), now=AT)]
    assert len(taken) == SINGLES
    assert denials.due(now=AT) == []
    (summed,) = denials.due(now=AT + MINUTE)
    assert summed.details["count"] == 1000 - SINGLES
    assert denials.due(now=AT + MINUTE) == []


def test_next_minute_begins_anew() -> None:
    denials = Denials()
    for _ in range(SINGLES + 1):
        denials.take(denial(), now=AT)
    summed, single = denials.take(denial(), now=AT + MINUTE)
    assert (summed.details["count"], single.details["count"]) == (1, 1)


def test_flood_under_ever_new_names_makes_a_bounded_number_of_events() -> None:
    denials = Denials()
    count = 5000
    changes = [
        change for n in range(count) for change in denials.take(denial(actor=f"e{n}"), now=AT)
    ]
    assert len(changes) == SINGLES_IN_ALL
    summed = denials.rest(now=AT)
    assert len(summed) == MOST_SUMS + 1
    assert count_of(changes) + count_of(summed) == count


def test_sum_names_a_route_and_an_address_only_where_they_were_all_the_same() -> None:
    denials = Denials()
    for _ in range(SINGLES):
        denials.take(denial(), now=AT)
    for origin in ("10.0.0.1", "10.0.0.2"):
        denials.take(denial(route="GET /x", origin=origin), now=AT)
    (summed,) = denials.rest(now=AT)
    assert (summed.details["route"], summed.origin) == ("GET /x", "(several)")


def test_text_that_a_stranger_wrote_is_cut_and_made_printable() -> None:
    asked = denial(actor="e\x00v\x1b[2Je\ud800", subject="x" * 10_000)
    (change,) = Denials().take(asked, now=AT)
    assert change.actor.isprintable()
    assert "\x00" not in change.actor
    assert len(change.subject) <= 255


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from("xy"), st.integers(1, 9), st.integers(0, 40)
        ),
        max_size=200,
    )
)
def test_no_denial_is_lost_and_none_counts_twice(asked: list[tuple[str, str, int, int]]) -> None:
    denials, now, changes = Denials(), AT, []
    for actor, subject, count, seconds in asked:
        now += timedelta(seconds=seconds)
        changes += denials.take(denial(actor=actor, subject=subject, count=count), now=now)
    changes += denials.rest(now=now)
    for name in "abc":
        mine = [change for change in changes if change.actor == name]
        assert count_of(mine) == sum(count for actor, _, count, _ in asked if actor == name)
