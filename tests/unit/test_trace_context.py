"""W3C Trace Context, by the examples of the specification and of its test suite (w3c/trace-context)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.wire.trace_context import (
    MOST_MEMBERS,
    PARENT,
    STATE,
    context_of,
    new_id,
    parent_header,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def read(parent, state=None):
    headers = {PARENT: parent if isinstance(parent, bytes) else parent.encode()}
    if state is not None:
        headers[STATE] = state if isinstance(state, bytes) else state.encode()
    return context_of(headers)


@pytest.mark.parametrize(
    ("flags", "is_sampled"), [("00", False), ("01", True), ("ff", True), ("02", False)]
)
def test_examples_of_the_specification_are_read(flags, is_sampled):
    context = read(f"00-{TRACE}-{SPAN}-{flags}")
    assert (context.trace_id.hex(), context.span_id.hex()) == (TRACE, SPAN)
    assert context.is_sampled is is_sampled


@pytest.mark.parametrize(
    "given",
    [
        "", "00", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-", f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-001", f"00-{TRACE}-{SPAN}-0x", f"00-{TRACE}-{SPAN}-.1",
        f"00-{TRACE}-{SPAN}-01-", f"00-{TRACE}-{SPAN}-01.", f"00-{TRACE}-{SPAN}-01-what",
        f"ff-{TRACE}-{SPAN}-01", f"0-{TRACE}-{SPAN}-01", f"000-{TRACE}-{SPAN}-01",
        f".0-{TRACE}-{SPAN}-01", f"0.-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01.what",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01", f"00-.{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN[1:]}-01",
        f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}0-{SPAN}-01", f"00-{TRACE}-{SPAN}0-01",
        f"00_{TRACE}_{SPAN}_01", f" {GOOD}", f"{GOOD},{GOOD}", f"{GOOD}\n",
    ],
)  # fmt: skip
def test_what_does_not_follow_the_rules_begins_a_new_trace(given):
    assert read(given, "a=1") is None


@pytest.mark.parametrize(
    "given", [f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-the-future-is"]
)
def test_later_versions_are_read_as_far_as_they_are_known(given):
    assert read(given).trace_id.hex() == TRACE


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("foo=1", "foo=1"),
        ("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        ("foo=1 \t , \t bar=2, \t baz=3", "foo=1,bar=2,baz=3"),
        ("foo=1,", "foo=1"),
        (",foo=1,,bar=2", "foo=1,bar=2"),
        ("foo@bar=1,fw529a3039@dt=FfwwABA", "foo@bar=1,fw529a3039@dt=FfwwABA"),
        ("0tenant@a=1", "0tenant@a=1"),
        ("foo= a b", "foo= a b"),
        ("a-_*/=1", "a-_*/=1"),
        ("foo@=1", ""), ("@foo=1", ""), ("foo@@bar=1", ""), ("foo@bar@baz=1", ""), ("FOO=1", ""),
        ("foo =1", ""), ("foo.bar=1", ""), ("foo=", ""), ("foo=bar=baz", ""), ("foo", ""), ("0x=1", ""),
        ("foo=1,foo=1", ""), ("foo=1,foo=2", ""), ("foo=é", ""), ("foo=1\x00", ""),
        ("a" * 256 + "=1", "a" * 256 + "=1"), ("a" * 257 + "=1", ""),
        ("t" * 241 + "@" + "v" * 14 + "=1", "t" * 241 + "@" + "v" * 14 + "=1"),
        ("t" * 242 + "@v=1", ""), ("t@" + "v" * 15 + "=1", ""),
        ("foo=" + "x" * 256, "foo=" + "x" * 256), ("foo=" + "x" * 257, ""),
    ],
)  # fmt: skip
def test_state_is_passed_on_or_dropped_whole(given, kept):
    context = read(GOOD, given)
    assert context.state == kept
    assert context.trace_id.hex() == TRACE


def test_state_has_32_members_at_most():
    members = [f"k{number}=1" for number in range(MOST_MEMBERS + 1)]
    assert read(GOOD, ",".join(members[:-1])).state
    assert not read(GOOD, ",".join(members)).state


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_no_bytes_of_a_caller_are_more_than_a_context_or_none(parent, state):
    context = read(parent, state)
    if context is not None:
        assert any(context.trace_id)
        assert any(context.span_id)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans())
def test_what_is_written_is_read_again(trace, span, is_sampled):
    context = read(parent_header(trace, span, is_sampled=is_sampled))
    if any(trace) and any(span):
        assert (context.trace_id, context.span_id) == (trace, span)
        assert context.is_sampled is is_sampled
    else:
        assert context is None


@given(st.text("0123456789abcdef-ABCDEFg. ", min_size=50, max_size=60))
def test_only_the_form_of_the_specification_is_read(given):
    context = read(given)
    if context is not None and given.startswith("00"):
        flags = given[-2:]
        assert given == f"00-{context.trace_id.hex()}-{context.span_id.hex()}-{flags}"


def test_new_ids_are_never_zero(monkeypatch):
    monkeypatch.setattr("random.getrandbits", lambda bits: 0)
    assert new_id(8) == bytes(7) + b"\x01"
    assert len(new_id(16)) == 16
