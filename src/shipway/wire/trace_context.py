"""The headers by which traces go on from process to process: W3C Trace Context.

https://www.w3.org/TR/trace-context/ (level 1; what level 2 adds is read too). Over gRPC they are metadata.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

import msgspec

PARENT = b"traceparent"
STATE = b"tracestate"
SAMPLED = 0x01
"""The flag of a trace that its caller records."""

MOST_MEMBERS = 32
STATE_LIMIT_BYTES = 8192
"""Longer states are dropped; 512 bytes are what everybody has to carry."""

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_KEY = rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_VALUE = rb"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rb"(" + _KEY + rb")=" + _VALUE)
_FORBIDDEN_VERSION = b"ff"
_VERSION = b"00"
_BLANKS = b" \t"


class TraceContext(msgspec.Struct, frozen=True, kw_only=True):
    """The trace that a request belongs to, and the caller's span in it.

    `trace_id` has 16 bytes and `span_id` 8, neither all zero. `state` is the `tracestate` to pass on.
    """

    trace_id: bytes
    span_id: bytes
    is_sampled: bool
    state: str = ""


def context_of(headers: Mapping[bytes, bytes]) -> TraceContext | None:
    """The context in a request's headers; None where there is none, or none that follows the rules.

    A `tracestate` that does not follow them is dropped, and the rest is kept (3.3.1.4 of the source).
    """
    given = headers.get(PARENT)
    if given is None:
        return None
    found = _PARENT.match(given)
    if found is None:
        return None
    version, trace, span, flags = found.groups()
    rest = given[found.end() :]
    if version == _FORBIDDEN_VERSION or not trace.strip(b"0") or not span.strip(b"0"):
        return None
    # A later version may say more behind another dash; this one may not.
    if rest and (version == _VERSION or not rest.startswith(b"-")):
        return None
    return TraceContext(
        trace_id=bytes.fromhex(trace.decode()),
        span_id=bytes.fromhex(span.decode()),
        is_sampled=bool(int(flags, 16) & SAMPLED),
        state=_state_of(headers.get(STATE, b"")),
    )


def _state_of(given: bytes) -> str:
    if not given or len(given) > STATE_LIMIT_BYTES:
        return ""
    members = [one for part in given.split(b",") if (one := part.strip(_BLANKS))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {one[1] for one in found if one is not None}
    if len(keys) != len(members) or len(members) > MOST_MEMBERS:
        return ""
    return b",".join(members).decode("ascii")


def parent_header(trace_id: bytes, span_id: bytes, *, is_sampled: bool) -> str:
    """The `traceparent` that makes a span the parent of what is asked for with it."""
    return f"00-{trace_id.hex()}-{span_id.hex()}-{int(is_sampled):02x}"


def new_id(size: int) -> bytes:
    """Random bytes that are not all zero. Ids need no secrecy (W3C Trace Context, 7)."""
    return (random.getrandbits(8 * size) or 1).to_bytes(size, "big")
