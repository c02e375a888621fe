"""The id by which a caller, the prediction log, the logs and the traces name one request.

It is the caller's own: that of its dialect, else the header `x-request-id` (over gRPC, metadata). What is
an id is the same whichever way it came: 1 to 200 characters that are not all blank, without a zero byte,
in a header as UTF-8. Anything else is passed over, as if none had been sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import quote

from shipway.core.text import printable
from shipway.wire.codec import Headers

HEADER = b"x-request-id"
MOST_CHARACTERS = 200
"""A longer id is none: it would be kept with each prediction. Other texts of strangers are cut to it."""

_BLANKS = b" \t"
"""Around a header's value they are no part of it (RFC 9110, 5.5)."""


def own_id(asked_id: str, headers: Mapping[bytes, bytes]) -> str:
    """The id that a caller gave its request, `asked_id` in the dialect's own place; empty for none."""
    if asked_id and _is_id(asked_id):
        return asked_id
    sent = headers.get(HEADER)
    if sent is None:
        return ""
    try:
        text = sent.strip(_BLANKS).decode()
    except UnicodeDecodeError:
        return ""
    return text if _is_id(text) else ""


def _is_id(text: str) -> bool:
    return 0 < len(text) <= MOST_CHARACTERS and "\0" not in text and not text.isspace()


def header_of(request_id: str) -> Headers:
    """The header that tells the id; what is not printable ASCII stands in it as %XX of its UTF-8."""
    if not (request_id.isascii() and request_id.isprintable()):
        request_id = quote(request_id, safe=" !#$&'()*+,/:;=?@[]~", errors="replace")
    return ((HEADER, request_id.encode()),)


def told_id(headers: Headers) -> str:
    """The id that an answer tells in its header, as `header_of` writes it; empty without one."""
    return dict(headers).get(HEADER, b"").decode("latin-1")


def given_id(headers: Mapping[bytes, bytes]) -> str:
    """The id in the header of a request, fit for a line of a log; empty without one."""
    return shown(own_id("", headers))


def shown(text: str) -> str:
    """A caller's text, short and in one line, so that it forges none."""
    return printable(text[:MOST_CHARACTERS]).replace("\n", "\\n").replace("\t", "\\t")


def made_id() -> str:
    """An id for a request that came without one."""
    return secrets.token_hex(8)
