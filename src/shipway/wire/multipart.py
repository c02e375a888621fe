"""`multipart/form-data` bodies (RFC 7578), as far as clients of model servers send them."""

from __future__ import annotations

import re

import msgspec

from shipway.core.errors import InvalidRequest

MAX_PARTS = 128
"""More is nobody's request."""

_NAME = re.compile(rb'(?:^|;)\s*name="?([^";]*)"?', re.IGNORECASE)


class Part(msgspec.Struct, frozen=True):
    """One part: its name, its media type (empty when it has none), and its bytes."""

    name: str
    media_type: str
    content: bytes


def parts_of(body: bytes, boundary: str) -> list[Part]:
    """The parts of a body, in order.

    Raises:
        InvalidRequest: no boundary, no part, a part without a name, too many, or a missing end.
    """
    mark = b"\r\n--" + boundary.encode("latin-1")
    pieces = (b"\r\n" + body).split(mark, MAX_PARTS + 2)
    if not boundary or len(pieces) < 3:
        raise InvalidRequest("The multipart body has no part between its boundaries.")
    if len(pieces) > MAX_PARTS + 2:
        raise InvalidRequest(f"The multipart body has more than {MAX_PARTS} parts.")
    if not pieces[-1].startswith(b"--"):
        raise InvalidRequest("The multipart body ends before its last boundary.")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, gap, content = piece.partition(b"\r\n\r\n")
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        headers[key.strip().lower()] = value.strip()
    found = _NAME.search(headers.get(b"content-disposition", b""))
    if not gap or found is None:
        raise InvalidRequest("A part of the multipart body has no name.")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return Part(found[1].decode("utf-8", "replace"), kind.decode("latin-1"), content)
