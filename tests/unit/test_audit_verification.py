"""Whatever is done to the chain or its heads is found, and the first bad link is named."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.audit import GENESIS, AuditEvent, Change, next_event
from shipway.core.heads import Cut, Head, message_of
from shipway.core.verification import ChainVerdict, Link, first_lost_head, position, verdict_of
from shipway.store.keys import SigningKey, is_signed

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY, OTHER = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2))


def events(count: int, *, actor: str = "ada", after: AuditEvent | None = None) -> list[AuditEvent]:
    made: list[AuditEvent] = []
    for number in range(count):
        change = Change(
            at=AT + timedelta(seconds=number),
            actor=actor,
            action="alias.set",
            subject="churn@champion",
            details={"before": None, "after": number},
            origin="10.0.0.7" if number % 2 else "",
        )
        made.append(next_event(change, made[-1] if made else after))
    return made


def signed(thing: Any, key: SigningKey = KEY) -> Any:
    thing = msgspec.structs.replace(thing, public_key=key.public_key)
    return msgspec.structs.replace(thing, signature=key.sign(message_of(thing)))


def head(number: int, event: AuditEvent | None, key: SigningKey = KEY, **fields: Any) -> Head:
    sequence, digest = (0, GENESIS) if event is None else (event.sequence, event.hash)
    made = Head(number=number, sequence=sequence, hash=digest, at=AT, public_key="", **fields)
    return signed(made, key)  # type: ignore[no-any-return]


def verdict(*links: Link, trusted: tuple[SigningKey, ...] = (KEY,)) -> ChainVerdict:
    ordered = sorted(links, key=position)
    return verdict_of(ordered, trusted=[k.public_key for k in trusted], is_signed=is_signed)


def broken_at(*links: Link, trusted: tuple[SigningKey, ...] = (KEY,)) -> tuple[int, str]:
    found = verdict(*links, trusted=trusted)
    assert not found.holds
    assert found.broken is not None
    return found.broken.sequence, found.broken.reason


class World(msgspec.Struct):
    """A chain that holds: its events, and a head for the empty chain, some events, and the last."""

    events: list[AuditEvent]
    heads: list[Head]

    def first_head_from(self, sequence: int) -> int:
        return next(h.sequence for h in self.heads if h.sequence >= sequence)


@st.composite
def worlds(draw: st.DrawFn, least: int = 1) -> World:
    made = events(draw(st.integers(least, 7)))
    places = draw(st.sets(st.integers(0, len(made) - 1)))
    chosen = [None, *(made[place] for place in sorted(places | {len(made) - 1}))]
    return World(made, [head(number, event) for number, event in enumerate(chosen, start=1)])


OTHER_VALUES: dict[str, Any] = {
    "at": AT - timedelta(days=1),
    "actor": "eve",
    "action": "alias.delete",
    "subject": "fraud@champion",
    "details": {"before": 1},
    "origin": "10.6.6.6",
    "previous_hash": "1" * 64,
    "hash": "2" * 64,
}


@given(worlds())
def test_untouched_chain_holds_and_is_proven_through_its_last_event(world: World) -> None:
    found = verdict(*world.events, *world.heads)
    last = len(world.events)
    assert (found.holds, found.first, found.last, found.signed_through) == (True, 1, last, last)


def test_the_table_has_every_field_of_an_event() -> None:
    assert {*OTHER_VALUES, "sequence"} == set(AuditEvent.__struct_fields__)


@given(worlds(), st.data(), st.sampled_from(sorted(OTHER_VALUES)))
def test_any_changed_field_is_found_at_its_event(
    world: World, data: st.DataObject, field: str
) -> None:
    place = data.draw(st.integers(0, len(world.events) - 1))
    change = {field: OTHER_VALUES[field]}
    world.events[place] = msgspec.structs.replace(world.events[place], **change)
    assert broken_at(*world.events, *world.heads)[0] == place + 1


@given(worlds(), st.data())
def test_removed_event_is_found_at_its_place(world: World, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(world.events) - 1))
    del world.events[place]
    sequence, reason = broken_at(*world.events, *world.heads)
    assert sequence == place + 1
    assert f"event {place + 1} is missing" in reason


@given(worlds(least=2), st.data())
def test_events_that_changed_places_are_found_at_the_first(
    world: World, data: st.DataObject
) -> None:
    one = data.draw(st.integers(0, len(world.events) - 2))
    two = data.draw(st.integers(one + 1, len(world.events) - 1))
    first, second = world.events[one], world.events[two]
    world.events[one] = msgspec.structs.replace(second, sequence=first.sequence)
    world.events[two] = msgspec.structs.replace(first, sequence=second.sequence)
    assert broken_at(*world.events, *world.heads)[0] == one + 1


@given(worlds(), st.data())
def test_tail_cut_off_is_found_after_the_last_event_left(world: World, data: st.DataObject) -> None:
    left = data.draw(st.integers(0, len(world.events) - 1))
    sequence, reason = broken_at(*world.events[:left], *world.heads)
    assert sequence == left + 1
    assert "is missing: at 2026-01-01 00:00:00 UTC the chain had" in reason


@given(worlds(), st.data())
def test_chain_computed_anew_is_found_at_the_first_head_over_it(
    world: World, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(world.events) - 1))
    kept = world.events[:place]
    forged = events(len(world.events) - place, actor="eve", after=kept[-1] if kept else None)
    sequence, reason = broken_at(*kept, *forged, *world.heads)
    assert sequence == world.first_head_from(place + 1)
    assert f"event {sequence} is not the one that was signed" in reason


@given(worlds(), st.data())
def test_removed_head_is_missed(world: World, data: st.DataObject) -> None:
    # A newest head that is gone is for the witness to tell.
    place = data.draw(st.integers(0, len(world.heads) - 2))
    del world.heads[place]
    assert broken_at(*world.events, *world.heads)[1] == f"signed head {place + 1} is missing"


def test_chain_without_any_head_does_not_hold() -> None:
    sequence, reason = broken_at(*events(3))
    assert (sequence, "no head" in reason) == (1, True)


@given(worlds(), st.data())
def test_any_changed_field_of_a_head_is_a_forged_signature(
    world: World, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(world.heads) - 1))
    fields: dict[str, Any] = {
        "hash": "3" * 64,
        "at": AT + timedelta(hours=1),
        "public_key": OTHER.public_key,
        "vouches_for": OTHER.public_key,
        "signature": "0" * 128,
    }
    name = data.draw(st.sampled_from(sorted(fields)))
    world.heads[place] = msgspec.structs.replace(world.heads[place], **{name: fields[name]})
    assert "forged signature" in broken_at(*world.events, *world.heads)[1]


def test_head_of_a_strange_key_is_found_even_when_it_fits() -> None:
    made = events(3)
    sequence, reason = broken_at(*made, head(1, None), head(2, made[1], OTHER), head(3, made[2]))
    assert sequence == 2
    assert f"signed with key {OTHER.public_key[:16]}, which is not known" in reason


def test_stranger_cannot_vouch_for_itself() -> None:
    made = events(2)
    strange = head(2, made[0], OTHER, vouches_for=OTHER.public_key)
    assert broken_at(*made, head(1, None), strange, head(3, made[1]))[0] == 1


@pytest.mark.parametrize("trusted", [(KEY,), (OTHER,), (KEY, OTHER)])
def test_chain_holds_across_a_rotation_whichever_of_the_keys_is_known(
    trusted: tuple[SigningKey, ...],
) -> None:
    made = events(3)
    links = [
        head(1, None),
        head(2, made[1], vouches_for=OTHER.public_key),
        head(3, made[1], OTHER, vouches_for=KEY.public_key),
        head(4, made[2], OTHER),
    ]
    assert verdict(*made, *links, trusted=trusted).holds
    forged = events(3, actor="eve")
    assert broken_at(*forged, *links, trusted=trusted)[0] == 2
    changed = [msgspec.structs.replace(made[0], actor="eve"), *made[1:]]
    assert broken_at(*changed, *links, trusted=trusted) == (1, "event 1 was changed")


def cut(event: AuditEvent, *, heads_from: int, key: SigningKey = KEY) -> Cut:
    made = Cut(
        first=1,
        sequence=event.sequence,
        hash=event.hash,
        at=AT,
        public_key="",
        archive="a.jsonl",
        sha256="0" * 64,
        heads_from=heads_from,
    )
    return signed(made, key)  # type: ignore[no-any-return]


def test_chain_after_a_cut_holds_and_a_longer_cut_than_signed_does_not() -> None:
    made = events(5)
    end = head(3, made[4])
    found = verdict(cut(made[1], heads_from=3), *made[2:], end)
    assert (found.holds, found.first, found.last) == (True, 3, 5)
    assert broken_at(cut(made[1], heads_from=3), *made[3:], end)[1] == "event 3 is missing"
    assert broken_at(*made[2:], end)[1] == "event 1 is missing"
    assert (
        "which is not known" in broken_at(cut(made[1], heads_from=3, key=OTHER), *made[2:], end)[1]
    )
    forged = msgspec.structs.replace(cut(made[1], heads_from=3), sequence=3, hash=made[2].hash)
    assert "forged signature" in broken_at(forged, *made[3:], end)[1]


@given(worlds(), st.data())
def test_head_that_only_the_witness_still_has_is_named(world: World, data: st.DataObject) -> None:
    kept = list(world.heads)
    assert first_lost_head(world.heads, iter(kept), heads_from=1) is None
    place = data.draw(st.integers(0, len(kept) - 1))
    lost = kept.pop(place)
    found = first_lost_head(world.heads, iter(kept), heads_from=1)
    assert found is not None
    assert found.sequence == lost.sequence
    assert f"head {lost.number} " in found.reason
    assert first_lost_head(world.heads[: place + 1], iter(kept), heads_from=lost.number + 1) is None
    other = msgspec.structs.replace(lost, hash="4" * 64)
    kept.insert(place, other)
    assert first_lost_head(world.heads, iter(kept), heads_from=1) is not None


def test_long_chain_is_checked_in_little_memory() -> None:
    def links() -> Iterator[Link]:
        yield head(1, None)
        last: AuditEvent | None = None
        for number in range(8_000):
            change = Change(at=AT, actor="ada", action="a.b", subject="c", details={"n": number})
            last = next_event(change, last)
            yield last
        yield head(2, last)

    tracemalloc.start()
    try:
        assert verdict_of(links(), trusted=[KEY.public_key], is_signed=is_signed).holds
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
