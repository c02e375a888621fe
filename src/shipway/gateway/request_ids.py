"""What a prediction is found by: its caller's own id, or one that the gateway makes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from itertools import count
from urllib.parse import quote

from shipway.wire.codec import Headers

REQUEST_ID = b"x-request-id"
LONGEST = 200
"""A longer id is no id: it would be kept with each prediction."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TRIPLES = [a + b + c for a in _DIGITS for b in _DIGITS for c in _DIGITS]


def made_ids() -> Iterator[str]:
    """Ids that no other process makes: ten random characters, and a count (`k3j9x2ab0c-00000f`)."""
    number = secrets.randbelow(36**10)
    prefix = "".join(_DIGITS[number // 36**place % 36] for place in range(10))
    for high in count():
        # After two thousand million of them, they get longer.
        more, middle = divmod(high, len(_TRIPLES))
        start = f"{prefix}-{more or ''}{_TRIPLES[middle]}"
        for low in _TRIPLES:
            yield start + low


def own_id(asked_id: str, headers: Mapping[bytes, bytes]) -> str:
    """The caller's own id: that of the dialect, else the header `x-request-id`; empty for none."""
    if asked_id:
        return asked_id if len(asked_id) <= LONGEST else ""
    sent = headers.get(REQUEST_ID)
    if sent is None or len(sent) > LONGEST:
        return ""
    return sent.decode("utf-8", "replace").strip()


def header_of(request_id: str) -> Headers:
    """The header that tells the id; what is not printable ASCII stands in it as %XX of its UTF-8."""
    if not (request_id.isascii() and request_id.isprintable()):
        request_id = quote(request_id, safe=" !#$&'()*+,/:;=?@[]~", errors="replace")
    return ((REQUEST_ID, request_id.encode()),)
